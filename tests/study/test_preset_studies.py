"""A confirmatory and an exploratory study of small arms of both tracks, from YAML to report."""

import json
import os
import subprocess
import time
from dataclasses import replace

import pytest
import yaml
from close_pictures import METRIC
from command_child import Commands
from places import EXPERIMENTS, TESTS
from verdict_words import VERDICT, texts

from unify.answers.study_records import load_study
from unify.answers.words import si
from unify.config import load_recipe
from unify.data.shapes import Shapes
from unify.metrics.metric import digest
from unify.metrics.shapes_prompts import full_prompts
from unify.runs.folder import Run
from unify.runs.lookup import recorded_needed
from unify.study.jobs import StudyRequest
from unify.study.plan import plan
from unify.study.run_study import run_study

pytestmark = pytest.mark.slow

CLOSE = {"class": f"{TESTS}/close_pictures.py:Closeness", "prompts": 6}
TRACK = f"{EXPERIMENTS}/pretrained_track"
ARMS = {
    "scratch": f"{EXPERIMENTS}/shapes2/transfusion.yaml",
    "transfusion": f"{TRACK}/transfusion.yaml",
    "queries_dit": f"{TRACK}/queries_dit.yaml",  # from a denoiser, which is trained first
    "again": {
        "base": f"{TRACK}/queries_dit.yaml",
        "seeds": {"init": 100, "data": 100, "noise": 100},
    },
}
SEEDS = range(6)
NAMED = [("queries_dit", "scratch"), ("transfusion", "scratch")]
SHARED = {
    "set": {"image_sampling": {"steps": 2}, "evaluation": [CLOSE]},
    "budget": {"flops": 4e8, "charge": ["encoding", "needed"]},
    # so lenient that all have learned
    "learned": {"gain": 1.0, "ratio": 1e-9, "evaluation": {"prompts": 3}, "at": [0.5, 1.0]},
}
CONFIRMATORY = {
    "name": "confirm",
    "preset": "confirmatory",
    "preregistration": "plan.md",
    "seeds": list(SEEDS),
    "arms": ARMS,
    **SHARED,
    "families": {"drawing": [{"metric": METRIC, "first": a, "second": b} for a, b in NAMED]},
    "controls": [{"arm": "again", "expect": "same", "than": "queries_dit"}],
}
EXPLORATORY = {
    "name": "look",
    "preset": "exploratory",
    "arms": {name: ARMS[name] for name in ("scratch", "transfusion")},
    **SHARED,
    "primary": [METRIC],
}


def git(folder, *words):
    who = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(folder, text):
    """Write the pre-registration and commit it; the commit."""
    (folder / "plan.md").write_text(text)
    git(folder, "add", "plan.md")
    git(folder, "commit", "-qm", "The design")
    return git(folder, "rev-parse", "HEAD")


def request(folder, content, **of_request):
    path = folder / f"{content['name']}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    words = [f"machine.runs={folder}/runs", "machine.tracker=none", "machine.threads=1"]
    return StudyRequest(str(path), words, tiny=True, **of_request)


def kill_when_there_is(pattern, asked, folder):
    """Start a study in a process, and kill it as soon as a file is there."""
    (folder / "printed").mkdir()
    process = Commands(folder / "printed").start("study", *asked.words, **os.environ)
    while process.is_alive() and not any(folder.glob(pattern)):
        time.sleep(0.02)
    assert process.is_alive(), "it was killed before its end"
    process.kill()
    process.join()


def prompt_sets(folder):
    rows = json.loads((folder / "results.json").read_text())
    return {row["passport"]["prompt_set"] for row in rows if row["metric"] == METRIC}


def prompts_of_stream(stream):
    """The digest of what the metric asks on a stream of prompts; None is that of development."""
    source = load_recipe(ARMS["scratch"], tiny=True)["data"]["source"]
    world = Shapes(**{key: value for key, value in source.items() if key != "class"})
    world = world if stream is None else world.on_stream(stream)
    asked = full_prompts(world, CLOSE["prompts"], 0, "test").values()
    prompts = [p for some in asked for p in world.prompts(some.category, some.n, 0, "test")]
    return digest("\n".join(prompt.text for prompt in prompts).encode())


def answers_of(folder):
    return json.loads((folder / "answers.json").read_text())


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory):
    """A confirmatory study that was killed and went on to its end: folder, request, commit."""
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "-q")
    sealed = commit(folder, "what is compared\n")
    asked = request(folder, CONFIRMATORY)
    kill_when_there_is("runs/confirm/queries_dit-s0-*/journal.jsonl", asked, folder)
    ended = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*/export/*.safetensors")}
    assert ended
    assert run_study(asked, lambda text: None).failed == {}
    assert all(path.stat().st_mtime_ns == then for path, then in ended.items()), "trained once"
    return folder, asked, sealed


def test_only_named_comparisons_have_a_verdict_on_the_prompts_of_the_commit(confirmed):
    folder, _, sealed = confirmed
    runs = folder / "runs" / "confirm"
    answers = answers_of(runs)
    told = {(d["first"], d["second"]): d for d in answers["differences"] if d["primary"]}
    assert {pair for pair, each in told.items() if each["verdict"]} == {*NAMED}
    assert {told[pair]["family"] for pair in NAMED} == {"drawing"}
    assert {told[pair]["tests"] for pair in NAMED} == {2}
    assert all(told[pair]["seeds"] == list(SEEDS) for pair in NAMED)
    assert told["transfusion", "queries_dit"]["reason"] == "no verdict: not of a named family"
    assert answers["preregistration"] == {"path": "plan.md", "commit": sealed}
    rows = json.loads((runs / "results.json").read_text())
    assert len(rows) == len(ARMS) * len(SEEDS)
    assert {row["passport"]["sealed"] for row in rows} == {f"plan.md at {sealed[:12]}"}
    assert prompt_sets(runs) == {prompts_of_stream(int(sealed[:8], 16))}
    assert prompts_of_stream(None) not in prompt_sets(runs)
    assert f"plan.md at commit {sealed[:12]}" in (runs / "report.md").read_text()


def test_each_arm_is_charged_what_it_starts_from(confirmed):
    folder, asked, _ = confirmed
    study = load_study(folder / "runs" / "confirm")
    costs, spent = plan(asked).costs, answers_of(study.folder)["training_flops"]
    report = (study.folder / "report.md").read_text()
    for arm, cost in costs.items():
        assert (cost.before > 0) == (arm in ("queries_dit", "again")), "a denoiser"
        total = cost.steps * (cost.training + cost.encoding) + cost.before
        assert total == pytest.approx(4e8, rel=0.15), "a step is a large share of it"
        mine = [each for each in spent if each["arm"] == arm]
        assert [each["needed"] for each in mine] == [pytest.approx(cost.before)] * len(SEEDS)
        assert [each["total"] for each in mine] == [pytest.approx(total)] * len(SEEDS)
        row = next(line for line in report.splitlines() if line.startswith(f"| {arm} "))
        assert f"| {si(total)} |" in row, "in the first table"


def test_two_draws_of_one_arm_are_a_control_and_share_nothing(confirmed):
    study = load_study(confirmed[0] / "runs" / "confirm")
    (control,) = answers_of(study.folder)["controls"]
    assert control["came_out"] is True
    assert control["difference"]["seeds"] == list(SEEDS)
    weights = {
        arm: {part["hash"] for run in study.runs_of(arm) for part in run.needed}
        for arm in ("queries_dit", "again")
    }
    assert [len(each) for each in weights.values()] == [len(SEEDS), len(SEEDS)]
    assert not weights["queries_dit"] & weights["again"]
    recorded = [recorded_needed(Run(run.folder)) for run in study.runs_of("again")]
    seeds = [Run(part.folder).info["seed"] for parts in recorded for part in parts.values()]
    assert seeds == [100 + seed for seed in SEEDS]


def test_a_look_at_the_same_runs_has_no_verdict_word(confirmed):
    folder = confirmed[0]
    made = run_study(request(folder, EXPLORATORY), lambda text: None)
    assert made.failed == {}
    for run in load_study(made.folder).runs:
        alike = Run(folder / "runs" / "confirm" / run.folder.name)
        assert run.info["weights"] == alike.info["weights"]
    assert prompt_sets(made.folder) == {prompts_of_stream(None)}
    rows = json.loads((made.folder / "results.json").read_text())
    assert not any(row["passport"].get("sealed") for row in rows)
    for name, text in texts(made.folder).items():
        assert not VERDICT.search(text), name
    assert VERDICT.search(texts(folder / "runs" / "confirm")["report.md"]), "they would be found"


def test_a_changed_pre_registration_is_refused_and_another_commit_judges_nothing(confirmed):
    folder, asked, sealed = confirmed
    (folder / "plan.md").write_text("something else\n")
    with pytest.raises(ValueError, match=r"plan\.md: it differs from what is committed"):
        run_study(asked, lambda text: None)
    other = commit(folder, "something else\n")
    made = run_study(replace(asked, gather=True), lambda text: None)
    answers = answers_of(made.folder)
    assert answers["preregistration"]["commit"] == other != sealed
    assert {d["verdict"] for d in answers["differences"]} == {None}
    named = [d["reason"] for d in answers["differences"] if d["family"]]
    assert named == ["no verdict: not asked of the sealed test"] * len(NAMED)
    report = (made.folder / "report.md").read_text()
    assert "3 arms not asked the sealed test, so no verdict" in report
