"""Studies: every arm is completed for itself, and problems name study, arm and key."""

import pytest
from config_parts import refused, write

from unify.config import check_file, load_study

STUDY = """\
name: quick
arms:
  plain: good.yaml
  wide:
    base: good.yaml
    model: {trunk: {class: ./parts.py:Wide}}
    optimizer: {lr: 5e-3}
seeds: [0, 1]
set: {optimizer: {lr: 2e-3}, ema: 0.5, steps: "${data.tasks.caption}"}
"""


def test_study_completes_every_arm(folder):
    path = write(folder, "study.yaml", STUDY)
    assert check_file(path) == []
    study, arms = load_study(path, ["machine.threads=2", "seeds=[3]", "data.tasks.caption=9"])
    assert (study.name, study.seeds, list(arms)) == ("quick", [3], ["plain", "wide"])
    plain, wide = arms.values()
    assert (plain["study"], plain["name"], wide["name"]) == ("quick", "plain", "wide")
    assert (plain["optimizer"]["lr"], wide["optimizer"]["lr"]) == (2e-3, 5e-3)
    assert (plain["ema"], wide["ema"], plain["steps"], wide["steps"]) == (0.5, 0.5, 9, 9)
    assert (plain["machine"]["threads"], wide["model"]["trunk"]["factor"]) == (2, 2.0)
    assert load_study(path, tiny=True)[1]["plain"]["model"]["trunk"]["dim"] == 4


def test_each_arm_resolves_shared_references_for_itself(folder):
    text = STUDY.replace("    optimizer: {lr: 5e-3}", "    data: {tasks: {caption: 7}}")
    _, arms = load_study(write(folder, "study.yaml", text))
    assert [arm["steps"] for arm in arms.values()] == [2, 7]


def test_study_problems_name_study_arm_and_key(folder):
    text = STUDY.replace("lr: 5e-3", "lrr: 1").replace("plain: good.yaml", "plain: nowhere.yaml")
    path = write(folder, "study.yaml", text)
    problems = check_file(path)
    assert [(p.file, p.key) for p in problems] == [
        (str(path), "arms.plain"),
        (str(path), "arms.wide"),
    ]
    assert "nowhere.yaml: No such file" in str(problems[0])
    assert f"{path}:7: optimizer.lrr: unknown key; did you mean 'lr'?" in str(problems[1])


ARMS = "arms: {one: good.yaml, two: good.yaml}\n"
SHORT = f"name: s\n{ARMS}seeds: [0]\nset: {{steps: 7}}\n"
SET, CLAIM = "set: {steps: 7}", "paper: p, says: s, metric: m, better: one"
BROKEN_STUDIES = {
    "no name": ("name: s\n", "", "name", "add `name:`"),
    "no arm": (ARMS, "arms: {}\n", "arms", "name: experiment.yaml"),
    "list of arms": (ARMS, "arms: [good.yaml]\n", "arms", "expected a mapping"),
    "no such arm file": ("good.yaml,", "gud.yaml,", "arms.one", "did you mean 'good.yaml'?"),
    "odd arm": ("good.yaml,", "3,", "arms.one", "the name of a YAML file"),
    "unknown key": ("seeds:", "seedz:", "seedz", "did you mean 'seeds'?"),
    "one seed": ("[0]", "0", "seeds", "write a list of int"),
    "seed of letters": ("[0]", "[zero]", "seeds.0", "write a number"),
    "typo for all arms": ("{steps: 7}", "{stepz: 7}", "stepz", "did you mean 'steps'?"),
    "typo for one arm": (
        "{one: good.yaml",
        "{one: {base: good.yaml, stepz: 1}",
        "stepz",
        "'steps'?",
    ),
    "no such baseline": (SET, "baseline: three", "baseline", "it has one, two"),
    "empty budget": (SET, "budget: {}", "budget", "say one of steps"),
    "two budgets": (SET, "budget: {steps: 3, flops: 1e9}", "budget", "not steps, flops"),
    "budget of no arm": (SET, "budgets: {tow: {steps: 3}}", "budgets.tow", "mean 'two'?"),
    "grid of one value": (SET, "grid: {steps: 3}", "grid", "a mapping of a list"),
    "grid of a typo": (SET, "grid: {stepz: [3]}", "stepz", "did you mean 'steps'?"),
    "grid of no budget": (
        SET,
        "grid: {budget.flop: [1]}",
        "grid.budget.flop",
        "Budget takes steps",
    ),
    "width like none": (SET, "widths: {one: {like: tow}}", "widths.one.like", "mean 'two'?"),
    "width of nothing": (SET, "widths: {one: {}}", "widths", "say one of `like`"),
    "claim of no arm": (SET, f"claims: [{{{CLAIM}, worse: tow}}]", "claims.0.worse", "mean 'two'?"),
    "claim in old words": (
        SET,
        "claims: [{paper: p, says: s, metric: m, higher: one, lower: two}]",
        "claims.0.higher",
        "write `better:`, the arm that the paper found better",
    ),
    "direction of a tuned metric": (
        SET,
        "tune: {metric: m, space: {optimizer.warmup: [3]}, lower: true}",
        "tune.lower",
        "leave it out: the metric's scores state",
    ),
    "odd control": (
        SET,
        "controls: [{arm: one, expect: sme, than: two}]",
        "controls.0.expect",
        "did you mean 'same'?",
    ),
    "two draws of unlike arms": (
        "two: good.yaml}",
        "two: {base: good.yaml, steps: 5}}\ncontrols: [{arm: one, expect: same, than: two}]",
        "controls.0",
        "they differ in steps; give a `margin`",
    ),
    "one training on both sides of a control": (
        "two: good.yaml}\nseeds: [0]",
        "two: {base: good.yaml, seeds: {init: 2, data: 2, noise: 2}}}\nseeds: [3, 4, 5]\n"
        "controls: [{arm: two, expect: same, than: one, margin: 0.1}]",
        "controls.0",
        "two under seed 3 is one under seed 5: one training on both sides; give two other `seeds`",
    ),
    "tuning without a space": (SET, "tune: {metric: m}", "tune.space", "add `space:`"),
    "an empty range": (
        SET,
        "tune: {metric: m, space: {optimizer.warmup: {low: 3, high: 2}}}",
        "tune.space.optimizer.warmup",
        "low < high",
    ),
    "rows that ranks cannot share": (
        "{steps: 7}",
        "{machine: {devices: 3}}",
        "data.tasks.caption",
        "write a multiple of 3",
    ),
}


@pytest.mark.fault(28)
@pytest.mark.parametrize("case", BROKEN_STUDIES)
def test_a_broken_study_is_refused_with_file_key_and_remedy(folder, case, record_property):
    refused(folder / "study.yaml", SHORT, BROKEN_STUDIES[case], load_study, record_property)


@pytest.mark.parametrize(
    "own",
    ["init: 2, data: 3, noise: 2", "init: 3, data: 3, noise: 3", "init: 9, data: 9, noise: 9"],
)
def test_a_control_under_seeds_that_no_run_shares_is_taken(folder, own):
    text = (
        f"name: s\narms: {{one: good.yaml, two: {{base: good.yaml, seeds: {{{own}}}}}}}\n"
        "seeds: [0, 1, 2]\ncontrols: [{arm: two, expect: same, than: one}]\n"
    )
    assert check_file(write(folder, "study.yaml", text)) == []
