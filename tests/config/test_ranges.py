"""Numbers outside their range are refused, wherever a YAML can write one."""

import math
from fractions import Fraction
from typing import Annotated

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt, MultipleOf
from config_parts import message, write
from hypothesis import given, settings
from hypothesis import strategies as st
from settable_numbers import numbers

from unify.config import ConfigError, check_file, dump, load_cluster, load_recipe, load_study
from unify.config.annotations import metadata, shape
from unify.config.completion import Completion
from unify.config.yaml_tree import parse
from unify.schema.experiment import Recipe
from unify.support.ranges import MOST_WHOLE, limits

NUMBERS = numbers()


def checked(build, hint, value):
    """The problems of a value that stands in line 3 of a file."""
    text = f"\n\n{dump({'key': build(value)})}"
    problems = []
    node = parse(text, "a.yaml", problems).value["key"]
    completion = Completion(problems, Recipe, trusted=False, tiny=False)
    return completion.value(node, hint, "key"), problems


def ends(member):
    """(lowest, highest, whether each is in the range), None where there is none."""
    low = high = None
    for limit in metadata(member):
        for one in limit if isinstance(limit, Interval) else [limit]:
            if isinstance(one, (Gt, Ge)):
                low = (one.gt, False) if isinstance(one, Gt) else (one.ge, True)
            if isinstance(one, (Lt, Le)):
                high = (one.lt, False) if isinstance(one, Lt) else (one.le, True)
    return low, high


def step_of(member):
    """The number that values have to be a multiple of; 1: they are any."""
    return next((m.multiple_of for m in metadata(member) if isinstance(m, MultipleOf)), 1)


@st.composite
def within(draw, member):
    (low, high), whole = ends(member), shape(member)[0] is int
    if whole:
        least = -MOST_WHOLE if low is None else low[0] + (not low[1])
        most, step = MOST_WHOLE if high is None else high[0] - (not high[1]), step_of(member)
        return step * draw(st.integers(-(-least // step), most // step))
    edges = {"exclude_min": low is not None and not low[1]}
    edges["exclude_max"] = high is not None and not high[1]
    floats = st.floats(low and low[0], high and high[0], allow_nan=False, **edges)
    return draw(floats.filter(math.isfinite))


@st.composite
def beyond(draw, member):
    (low, high), whole = ends(member), shape(member)[0] is int
    kinds = [st.sampled_from([math.nan, math.inf, -math.inf])]
    if whole:
        kinds += [st.integers(min_value=MOST_WHOLE + 1, max_value=10**60)]
    if (step := step_of(member)) > 1:
        kinds += [st.integers(0, 2**40).filter(lambda n: n % step)]
    for end, sign in ((low, -1), (high, 1)):
        if end is None or math.isinf(end[0]):
            continue
        if not end[1]:
            kinds.append(st.just(end[0] if whole else float(end[0])))
        far = st.integers(1, 2**40) if whole else st.floats(1e-3, 1e200).map(Fraction)
        of_end = st.builds(lambda d, e=end[0], s=sign: e + s * d, far)
        kinds.append(of_end if whole else of_end.map(float).filter(lambda x, e=end[0]: x != e))
    return draw(st.one_of(kinds))


def test_there_are_the_numbers_of_settings_and_of_all_shipped_parts():
    names = {str(setting) for setting, _, _ in NUMBERS}
    assert {
        "unify.schema.experiment.Optimizer.clip",
        "unify.schema.study.Study.seeds",
        "unify.schema.cluster.Cluster.minutes",
        "unify.paradigms.ar_vq.CodeSampler.top_p",
        "unify.tokenizers.vq.FSQCodes.levels",
        "unify.nn.denoiser.UNetDenoiser.betas",
        "unify.data.shapes.Shapes.objects",
    } <= names
    assert len(NUMBERS) > 240


def test_every_number_has_a_stated_range():
    bare = {str(setting) for setting, member, _ in NUMBERS if not limits(metadata(member))}
    assert bare == set(), "annotate it with a range of unify/support/ranges.py"


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_number_within_its_range_passes(data):
    setting, member, build = data.draw(st.sampled_from(NUMBERS))
    value = data.draw(within(member))
    _, problems = checked(build, setting.hint, value)
    assert problems == [], (str(setting), value)


@pytest.mark.fault(36, examples=300)
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_number_beyond_its_range_is_refused_with_file_line_key_value_and_range(data):
    setting, member, build = data.draw(st.sampled_from(NUMBERS))
    value = data.draw(beyond(member))
    _, problems = checked(build, setting.hint, value)
    assert len(problems) == 1, (str(setting), value)
    text = str(problems[0])
    assert text.startswith("a.yaml:")
    assert ": key" in text
    assert repr(value) in text or repr(float(value)) in text
    assert any(word in text for word in ("; write ", "no finite number", "expected")), text


WORDS = [
    *("optimizer.clip=-1", "optimizer.lr=-1", "optimizer.lr=.nan", "optimizer.lr=.inf"),
    *("optimizer.betas=[0.9, 1.5]", "optimizer.betas.1=.nan", "optimizer.warmup=-5"),
    *("optimizer.weight_decay=-.inf", "optimizer.lr_ratio={trunk: -1}"),
    *("ema=2", "ema=-1", "ema=1"),
    *("loss_weights.text_ce=-1", "loss_weights.text_ce=.nan", "logging.metrics_every=-1"),
    *(
        "logging.keep_checkpoints=0",
        "machine.devices=0",
        "machine.threads=-4",
        "machine.workers=-1",
    ),
    *("machine.timeout=0", "seeds.init=-1", "seeds.init=9223372036854775808", "steps=0"),
    *("data.tasks.caption=0", "data.lengths={caption: -2}", "machine.micro_batch=-1"),
]


@pytest.mark.fault(36)
@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_the_command_line_is_refused_by_its_range(folder, word):
    if "betas.1" in word:
        text = (folder / "good.yaml").read_text()
        write(folder, "good.yaml", text.replace("lr: 1e-3", "betas: [0, 0]"))
    text = message(folder / "good.yaml", (word,))
    assert len(text.splitlines()) == 1
    assert text.startswith(f"command line: {word.partition('=')[0]}")
    assert "is out of range; write " in text


@pytest.mark.fault(36)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("dim: 16}", "dim: .nan}"),
        ("dim: 16}", "dim: 99999999999999999999}"),
        ("head: {size: 5}", "head: {size: 5, pair: [1, .inf]}"),
        ("head: {size: 5}", "free: {a: [1, {b: .nan}]}"),
        ("head: {size: 5}", "rate: .nan"),
        ("head: {size: 5}", "rate: ${data.source.size}\n  free: -.inf"),
    ],
)
def test_classes_without_ranges_take_no_nan_no_infinity_and_nothing_beyond_64_bits(
    folder, old, new
):
    text = (folder / "good.yaml").read_text().replace(old, new)
    problems = check_file(write(folder, "odd.yaml", text))
    assert len(problems) == 1
    assert problems[0].line
    assert "number" in problems[0].message


def test_an_annotation_may_admit_an_infinity():
    hint = Annotated[float, Interval(gt=0, le=math.inf)]
    assert checked(lambda value: value, hint, math.inf)[1] == []
    assert len(checked(lambda value: value, hint, -math.inf)[1]) == 1


def test_probabilities_that_exclude_each_other_have_a_sum(folder):
    text = (folder / "good.yaml").read_text()
    assert load_recipe(write(folder, "good.yaml", text))
    (source,) = [s for s, _, _ in NUMBERS if s.name == "source_dropout"][:1]
    _, problems = checked(lambda value: value, source.hint, [0.5, 0.5, 0.5])
    assert "its sum is 1.5" in str(problems[0])


@pytest.mark.fault(36)
def test_a_cluster_has_ranges_too(folder):
    with pytest.raises(ConfigError, match=r"a\.yaml:1: gpus: -1 is out of range; write 0 or more"):
        load_cluster(write(folder, "a.yaml", "gpus: -1\n"))


STUDY = "name: s\narms: {one: good.yaml, two: good.yaml}\n"
SCORED = 'evaluation=[{class: "unify.metrics.shapes_texts.Captions"}]'
BROKEN = {
    "no seed": ("seeds: []", "seeds: it holds 0; write 1 or more"),
    "a seed twice": ("seeds: [0, 1, 0]", "seeds: 0 is in it twice; keep one"),
    "a negative seed": ("seeds: [-1]", "seeds.0: -1 is out of range"),
    "a seed of 65 bits": ("seeds: [9223372036854775808]", "seeds.0: 92233720"),
    "seeds that add up": (
        "seeds: [9223372036854775807]\nset: {seeds: {init: 1}}",
        "seeds.0: 9223372036854775807 and the seeds of one exceed 64 bits",
    ),
    "no budget": ("budget: {samples: .nan}", "budget.samples: nan is out of range"),
    "too much": ("budget: {samples: 1.0e30}", "budget.samples: 1e+30 is out of range"),
    "too little": ("budget: {samples: 2}", "budget: 2 does not reach for one step of one"),
    "too few tokens": ("budget: {tokens: 1}", "budget: 1 does not reach for one step of one"),
    "a factor without end": (
        "tune: {metric: m, space: {optimizer.warmup: {factor: 1.0e308}}}",
        "tune.space.optimizer.warmup: inf",
    ),
    "a budget of a grid": ("grid: {budget.flops: [-1, 1]}", "grid.budget.flops: -1"),
    "a word of a grid": ("grid: {budget.flops: [many]}", "grid.budget.flops: expected"),
    "a budget of points": ("grid: [{budget.nosuch: 1}]", "grid.budget.nosuch: unknown key"),
    "a charge of points": ("grid: [{budget.flops: 1e12, budget.charge: [x]}]", "budget.charge.0"),
    "a task of points": ("grid: [{budget.samples: 99, budget.task: edit}]", "no rows of 'edit'"),
    "two of points": ("budget: {flops: 1e9}\ngrid: [{budget.steps: 3}]", "say one of steps"),
    "a task of no arm": (
        "budget: {samples: 9, task: edit}",
        "budget.task: one has no rows of 'edit'",
    ),
    "half a parameter": ("widths: {one: {parameters: 0.5}}", "no arm has less than one"),
    "no trial": (
        "tune: {metric: m, space: {optimizer.warmup: [1]}, trials: 1}",
        "tune.trials: 1 is out of",
    ),
    "nothing tried": (
        "tune: {metric: m, space: {optimizer.lr: {low: .nan, high: 1}}}",
        "tune.space.optimizer.lr.low: nan is no finite number",
    ),
    "a grid beyond": ("grid: {optimizer.clip: [1, -1]}", "optimizer.clip: -1.0 is out of range"),
    "a number tried": (
        "tune: {metric: m, space: {optimizer.clip: [1, -1]}}",
        "tune.space.optimizer.clip: -1.0 is out of range",
    ),
    "a range tried": (
        "tune: {metric: m, space: {ema: {low: 0.5, high: 1.5}}}",
        "tune.space.ema: 1.5 is out of range",
    ),
    "a factor tried": (
        "tune: {metric: m, space: {optimizer.final_lr: {factor: 3}}}\n"
        "set: {optimizer: {final_lr: 0.9}}",
        "tune.space.optimizer.final_lr: 2.7",
    ),
}


@pytest.mark.fault(36)
@pytest.mark.parametrize("case", BROKEN)
def test_numbers_of_a_study_are_refused(folder, case):
    keys, expected = BROKEN[case]
    path = write(folder, "study.yaml", f"{STUDY}{keys}\n")
    problems = list(map(str, check_file(path)))
    assert problems
    assert any(expected in text for text in problems), problems
    assert all(text.startswith(f"{path}:") for text in problems)


OUTCOMES = {
    "primary: [no/such]": "primary.0: no arm measures 'no/such'",
    "primary: [caption/exacct]": "did you mean 'caption/exact'?",
    "primary: [vqa/accuracy]": "primary.0: no arm measures 'vqa/accuracy'",
    "claims: [{paper: p, says: s, metric: caption/no, better: one, worse: two}]": "claims.0.metric",
    "controls: [{arm: one, expect: worse, than: two, metric: caption/no}]": "controls.0.metric",
    "tune: {metric: caption/no, space: {optimizer.warmup: [3]}}": "tune.metric: no arm measures",
}


@pytest.mark.fault(36)
@pytest.mark.parametrize("keys", OUTCOMES)
def test_an_outcome_that_no_arm_measures_is_refused(folder, keys):
    path = write(folder, "study.yaml", f"{STUDY}{keys}\n")
    load_study(path)  # a metric of one's own does not say what it measures
    with pytest.raises(ConfigError) as caught:
        load_study(path, [SCORED])
    assert OUTCOMES[keys] in str(caught.value)
    assert str(caught.value).startswith(f"{path}:3: ")


@pytest.mark.fault(36)
@pytest.mark.parametrize("key", ["tune", "sweep"])
def test_an_outcome_that_chooses_is_given_by_one_metric(folder, key):
    space = {"tune": "optimizer.warmup: [3]", "sweep": "text_sampling.temperature: [0.0]"}[key]
    text = f"{STUDY}{key}: {{metric: caption/exact, space: {{{space}}}}}\n"
    path = write(folder, "study.yaml", text)
    twice = SCORED.replace("=[", "=[{class: unify.metrics.shapes_texts.Captions, images: 3}, ")
    with pytest.raises(ConfigError, match=rf"{key}\.metric: caption/exact is given by two metrics"):
        load_study(path, [twice])


@pytest.mark.parametrize("end", ["", "/heldout", "/ceiling"])
def test_an_outcome_that_an_arm_measures_is_not(folder, end):
    load_study(write(folder, "study.yaml", f"{STUDY}primary: [caption/exact{end}]\n"), [SCORED])
