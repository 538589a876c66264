"""Presets of a study: what belongs to one is filled in, and what contradicts it is refused."""

import subprocess

import pytest
from config_parts import fill, refused, write

from unify.config import ConfigError, load_study
from unify.schema.study import Learned

DRAWN = "{class: unify.metrics.shapes_images.TextToImage}"
ARMS = f"""\
arms:
  one: {{base: good.yaml, evaluation: [{DRAWN}, {{class: ./parts.py:Speed}}]}}
  two: {{base: good.yaml, evaluation: [{DRAWN}]}}
  three: {{base: good.yaml, evaluation: [{DRAWN}]}}
"""
NEAREST = "text_to_image/nearest"
FAMILIES = f"families: {{drawing: [{{metric: {NEAREST}, first: one, second: two}}]}}\n"
CONFIRMATORY = f"""\
name: s
{ARMS}preset: confirmatory
preregistration: plans/design.md
{FAMILIES}"""
EXPLORATORY = f"name: s\n{ARMS}preset: exploratory\nprimary: [{NEAREST}]\n"


def git(folder, *words):
    who = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Experiments, a pre-registration that is committed, and a draft of another."""
    folder = fill(tmp_path_factory.mktemp("studies"))
    write(folder, "plans/design.md", "what is compared\n")
    git(folder, "init", "-q")
    git(folder, "add", "plans")
    git(folder, "commit", "-qm", "The design")
    write(folder, "plans/draft.md", "not committed\n")
    return folder


def test_a_confirmatory_study_is_whole_sealed_and_judges_what_it_names(folder):
    study, arms = load_study(write(folder, "c.yaml", CONFIRMATORY))
    assert (study.replicate, study.seeds, study.primary) == ("all", list(range(8)), [NEAREST])
    assert study.learned == Learned(), "no verdict against an arm that has not learned yet"
    assert arms["one"]["logging"]["scores"]["metrics"] == [NEAREST]
    (contrast,) = study.families["drawing"]
    assert (contrast.metric, contrast.first, contrast.second) == (NEAREST, "one", "two")
    design = str(folder / "plans" / "design.md")
    assert study.preregistration == design
    drawn, timed = arms["one"]["evaluation"]
    assert drawn["sealed"] == arms["two"]["evaluation"][0]["sealed"] == design
    assert "sealed" not in timed


def test_an_exploratory_study_has_three_seeds_that_share_what_they_start_from(folder):
    study, arms = load_study(write(folder, "e.yaml", EXPLORATORY))
    assert (study.replicate, study.seeds) == ("arm", [0, 1, 2])
    assert arms["one"]["evaluation"][0]["sealed"] is None
    assert load_study(folder / "e.yaml", ["seeds=[4, 5, 6]"])[0].seeds == [4, 5, 6]


OTHER = f"two: {{base: good.yaml, evaluation: [{DRAWN[:-1]}"
TWO = f"two: {{base: good.yaml, evaluation: [{DRAWN}"
CONTRAST = f"{{metric: {NEAREST}, first: one, second: two}}"
CONTRADICTIONS = {
    "shared parts": (FAMILIES, f"{FAMILIES}replicate: arm\n", "replicate", "leave `replicate` out"),
    "few seeds": (FAMILIES, f"{FAMILIES}seeds: [0, 1, 2, 3, 4]\n", "seeds", "6 at least"),
    "no file": ("preregistration: plans/design.md\n", "", "preregistration", "and commit it"),
    "a draft": ("design.md", "draft.md", "preregistration", "git add, git commit"),
    "a file that is not there": ("design.md", "none.md", "preregistration", "no such file"),
    "no families": (FAMILIES, f"primary: [{NEAREST}]\n", "families", "add `families:"),
    "an empty family": (f"[{CONTRAST}]", "[]", "families.drawing", ""),
    "an unnamed outcome": (
        FAMILIES,
        f"{FAMILIES}primary: [text_to_image/exact]\n",
        "primary",
        f"lacks {NEAREST} of families.drawing.0; add it",
    ),
    "no such arm": ("second: two", "second: tow", "families.drawing.0.second", "mean 'two'?"),
    "one arm": ("second: two", "second: one", "families.drawing.0", "with itself; name two"),
    "a comparison twice": (
        f"[{CONTRAST}]",
        f"[{CONTRAST}], again: [{{metric: {NEAREST}, first: two, second: one}}]",
        "families.again.0",
        "name each comparison once",
    ),
    "the arm of a control": (
        FAMILIES,
        f"{FAMILIES}controls: [{{arm: two, expect: worse, than: three}}]\n",
        "families.drawing.0.second",
        "tried by itself; name another",
    ),
    "another seal": (
        TWO,
        f"{OTHER}, sealed: other.md}}",
        "arms.two.evaluation.0.sealed",
        "leave `sealed` out",
    ),
    "prompts of another split": (
        TWO,
        f"{OTHER}, split: validation}}",
        "families.drawing.0",
        "of two asks the validation split; take `split` out",
    ),
}
OF_A_LOOK = {
    "whole pipelines": ("primary", "replicate: all\nprimary", "replicate", "leave `replicate` out"),
    "two seeds": ("primary", "seeds: [0, 1]\nprimary", "seeds", "leave `seeds` out (0 to 2)"),
    "families": ("primary", f"{FAMILIES}primary", "families", "take `preset: confirmatory`"),
    "a pre-registration": (
        "primary",
        "preregistration: plans/design.md\nprimary",
        "preregistration",
        "leave it out",
    ),
    "a sealed test": (TWO, f"{OTHER}, sealed: x.md}}", "arms.two.evaluation.0.sealed", "spend"),
    "an unknown preset": ("preset: exploratory", "preset: explore", "preset", "'exploratory'"),
    "families without a preset": ("preset: exploratory\n", FAMILIES, "families", "without a pre"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_contradicts_a_confirmatory_study_is_refused(folder, case, record_property):
    path = folder / "study.yaml"
    refused(path, CONFIRMATORY, CONTRADICTIONS[case], load_study, record_property)


@pytest.mark.parametrize("case", OF_A_LOOK)
def test_what_contradicts_an_exploratory_study_is_refused(folder, case, record_property):
    path = folder / "study.yaml"
    refused(path, EXPLORATORY, OF_A_LOOK[case], load_study, record_property)


def test_an_outcome_that_everybody_can_look_at_beforehand_is_refused(folder):
    evaluation = "[{class: unify.metrics.perplexity.Perplexity}]"
    text = CONFIRMATORY.replace(f"[{DRAWN}", evaluation[:-1]).replace(NEAREST, "caption/perplexity")
    with pytest.raises(ConfigError, match=r"families\.drawing\.0: Perplexity of one takes no `sea"):
        load_study(write(folder, "open.yaml", text))


def test_contradictions_on_the_command_line_are_refused_too(folder):
    path = write(folder, "c.yaml", CONFIRMATORY)
    with pytest.raises(ConfigError, match="command line: seeds: 3 are too few"):
        load_study(path, ["seeds=[0, 1, 2]"])
    with pytest.raises(ConfigError, match="command line: replicate: arm contradicts"):
        load_study(path, ["replicate=arm"])
    with pytest.raises(ConfigError, match="preregistration: contradicts a study without a preset"):
        load_study(path, ["preset=''"])


@pytest.mark.parametrize(
    "words",
    [
        ["seeds=[3, 5, 11, 2, 9, 1]"],
        ["learned=null"],
        ["learned.gain=1000"],
        [f"families={{other: [{{metric: {NEAREST}, first: two, second: one}}]}}"],
        [f"primary=[{NEAREST}, text_to_image/exact]"],
        ["arms.three.steps=7"],
        ["budget.steps=9"],
    ],
)
def test_what_is_compared_and_how_is_not_said_in_passing(folder, words):
    path = write(folder, "c.yaml", CONFIRMATORY)
    with pytest.raises(ConfigError, match=r"command line: \w+: what a confirmatory study compares"):
        load_study(path, words)
    load_study(path, ["title=Another title", "machine.threads=1"])


def test_an_outcome_that_no_arm_measures_is_named_where_it_stands(folder):
    text = CONFIRMATORY.replace(NEAREST, "text_to_image/nearer")
    text = text.replace(", {class: ./parts.py:Speed}", "")  # which may give any score
    with pytest.raises(ConfigError) as refusal:
        load_study(write(folder, "c.yaml", text))
    problem = next(p for p in refusal.value.problems if p.message.startswith("no arm measures"))
    assert (problem.key, problem.line) == ("families.drawing.0.metric", text.count("\n"))
    assert "no arm measures 'text_to_image/nearer'; did you mean" in problem.message
