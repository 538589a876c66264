"""`unify study --against`: what is refused before training, what is kept, and what a report has."""

import json
import shutil
import warnings
from dataclasses import replace

import pytest
from places import EXPERIMENTS
from report_study import edit_json
from scored_study import EXACT, write_scored_study

from unify.answers.publish import publish
from unify.answers.study_records import load_study
from unify.cluster.missing_jobs import missing_jobs
from unify.cluster.submit import submit
from unify.commands.study import report
from unify.commands.study import study as study_command
from unify.config import ConfigError
from unify.config import load_study as load_file
from unify.metrics.shapes_images import TextToImage
from unify.report.page import write_report
from unify.runs.published_folder import AGAINST, OUTCOMES, PUBLISHED
from unify.schema.cluster import Cluster
from unify.study.arms import resolve_arms
from unify.study.compared_with import keep_published, published_for
from unify.study.jobs import StudyRequest
from unify.study.mlflow_study import fetch_study
from unify.study.run_study import run_study
from unify.tracking.mlflow_parent import send_study
from unify.tracking.mlflow_process import store_uri


@pytest.fixture
def published(tmp_path):
    """The published folder of a study with the arms `ar_vq` and `flow`."""
    publish(load_study(write_scored_study(tmp_path / "theirs", {"ar_vq": 0.5, "flow": 0.8})),
            tmp_path / "pub")  # fmt: skip
    return tmp_path / "pub"


@pytest.fixture
def mine(tmp_path, published):
    """A study that was compared with the published one."""
    folder = write_scored_study(tmp_path / "runs" / "mine", {"mine": 0.7})
    request = StudyRequest("mine.yaml", against=str(published))
    stated = keep_published(request, published_for(request, _study(), print), folder)
    edit_json(folder / "study.json", against=stated)
    return folder


def _study(**more):
    study, _ = load_file(EXPERIMENTS / "studies" / "quickstart.yaml")
    for key, value in {"primary": [EXACT], "claims": [], "baseline": "", **more}.items():
        setattr(study, key, value)
    return study


def test_a_report_has_the_published_arms_without_the_folder_they_came_from(mine, published):
    for path in published.iterdir():
        path.unlink()
    page = write_report(mine).read_text()
    assert "published/flow" in page
    assert f"--against runs/mine/{AGAINST}" in page
    answers = json.loads((mine / "answers.json").read_text())
    assert [one["arm"] for one in answers["published"]] == ["published/ar_vq", "published/flow"]
    assert (
        "published" not in (mine / "results.json").read_text() + (mine / "results.csv").read_text()
    )


@pytest.mark.parametrize("how", ["cut", "gone", "another"])
def test_a_copy_that_is_not_whole_costs_the_published_arms_alone(mine, how):
    path = mine / AGAINST / PUBLISHED
    if how == "another":
        info = json.loads((mine / "study.json").read_text())
        edit_json(mine / "study.json", against={**info["against"], "hash": "0"})
    else:
        path.write_bytes(path.read_bytes()[:99]) if how == "cut" else path.unlink()
    with pytest.warns(UserWarning, match="published arms are left out"):
        study = load_study(mine)
    assert study.arms == ["mine"]
    assert {row["arm"] for row in study.rows} == {"mine"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        page = write_report(mine).read_text()
    assert "published arms are left out" in page
    assert "puts it back" in page


def test_what_cannot_be_compared_is_refused_before_training(published):
    request = StudyRequest("mine.yaml", against=str(published))
    with pytest.raises(
        ValueError, match=r"has no scores of vqa/accuracy: nothing .* it has caption"
    ):
        published_for(request, _study(primary=["vqa/accuracy"]), print)
    with pytest.raises(
        ValueError, match=r"names published/vae: .*has published/ar_vq, published/fl"
    ):
        published_for(request, _study(baseline="published/vae"), print)
    with pytest.raises(ValueError, match=r"names published/flow: .*none is given"):
        published_for(StudyRequest("mine.yaml"), _study(baseline="published/flow"), print)
    assert (
        published_for(StudyRequest("m", gather=True), _study(baseline="published/flow"), print)
        is None
    )


def test_a_study_says_what_is_read_and_asked_otherwise_and_keeps_its_own_rows(
    tmp_path, study, published
):
    """Nothing is trained here: a study is gathered whose runs are not there yet."""
    path = study(names=("ar_vq",), primary=[EXACT])
    said = []
    words = [f"machine.runs={tmp_path}/runs", "machine.tracker=none"]
    request = StudyRequest(path, words, tiny=True, gather=True, against=str(published))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = run_study(request, said.append)
    text = "\n".join(said)
    assert "compared with theirs (unify 0.1.0): published/ar_vq, published/flow" in text
    assert "ar_vq: other data than the published arms" in text
    assert "TextToImage, " in text
    assert json.loads((made.folder / "results.json").read_text()) == []
    info = json.loads((made.folder / "study.json").read_text())
    assert info["against"]["folder"] == str(published)
    answers = json.loads((made.folder / "answers.json").read_text())
    assert {one["reason"] for one in answers["differences"]} == {"not trained yet: ar_vq"}
    before = (made.folder / "study.json").read_bytes()
    (published / PUBLISHED).write_text("{")
    with pytest.raises(ValueError, match="get the folder anew"):
        run_study(request, said.append)
    assert (made.folder / "study.json").read_bytes() == before


@pytest.mark.parametrize(
    "own", [{"arm": "a"}, {"choose": True}, {"dry_run": True}], ids=["arm", "choose", "dry-run"]
)
def test_against_is_for_the_report(own, tmp_path):
    with pytest.raises(ValueError, match="--against is for the report"):
        study_command(tmp_path / "study.yaml", against="pub", **own)


def test_claims_and_the_baseline_may_name_published_arms_and_controls_may_not(study):
    claim = {"paper": "p", "says": "s", "metric": EXACT, "better": "ar_vq"}
    path = study(claims=[{**claim, "worse": "published/flow"}], baseline="published/flow")
    assert load_file(path)[0].claims[0].worse == "published/flow"
    control = {"arm": "ar_vq", "expect": "worse", "than": "published/flow"}
    with pytest.raises(ConfigError, match="no arm 'published/flow'"):
        load_file(study(controls=[control]))


def test_a_report_publishes_and_says_where(tmp_path, capsys):
    theirs = write_scored_study(tmp_path / "theirs", {"ar_vq": 0.5, "flow": 0.8})
    assert report(theirs, "", tmp_path / "pub") == 0
    digest = json.loads((tmp_path / "pub" / PUBLISHED).read_text())["hash"]
    assert f"{tmp_path / 'pub'} (hash {digest})" in capsys.readouterr().out
    edit_json(next(theirs.glob("flow-s1-*")) / "run.json", state="failed")
    with pytest.raises(
        ValueError, match=r"is not published: flow \(seed 1\) is not trained; `unify"
    ):
        report(theirs, "", tmp_path / "pub2")
    assert not (tmp_path / "pub2").exists()


SETTINGS = """
arms: {%s: {base: %s/transfusion.yaml, model: {trunk: {depth: %d}}}}
set:
  machine: {runs: %s/runs, tracker: none}
  evaluation:
    - {class: unify.metrics.shapes_images.TextToImage, prompts: 6, heldout: 0, geneval: 0}
seeds: [0, 1, 2]
primary: [text_to_image/nearest]
"""


@pytest.mark.slow
def test_trained_arms_are_compared_with_published_ones_from_yaml_to_the_report(tmp_path):
    for name, arm, depth in (("theirs", "flow", 1), ("mine", "deeper", 2)):
        text = f"name: {name}{SETTINGS % (arm, EXPERIMENTS, depth, tmp_path)}"
        (tmp_path / f"{name}.yaml").write_text(text)
    theirs = run_study(StudyRequest(str(tmp_path / "theirs.yaml"), tiny=True), print)
    publish(load_study(theirs.folder), tmp_path / "pub")
    for path in theirs.folder.glob("flow-*"):
        shutil.rmtree(path)
    said = []
    request = StudyRequest(str(tmp_path / "mine.yaml"), tiny=True, against=str(tmp_path / "pub"))
    mine = run_study(request, said.append)
    assert not mine.failed
    assert not any("other data" in text or "other settings" in text for text in said)
    answers = json.loads((mine.folder / "answers.json").read_text())
    (one,) = [each for each in answers["differences"] if each["primary"]]
    assert (one["first"], one["second"]) == ("deeper", "published/flow")
    assert one["seeds"] == [0, 1, 2]
    assert one["method"].startswith("crossed model, 3 seeds x ")
    rows = json.loads((mine.folder / "results.json").read_text())
    assert {row["arm"] for row in rows} == {"deeper"}
    assert {row["passport"]["metric_version"] for row in rows} == {TextToImage.version}


def test_the_report_of_a_cluster_compares_with_the_published_folder(published, tmp_path):
    file = str(EXPERIMENTS / "studies" / "quickstart.yaml")
    words = [f"machine.runs={tmp_path}/runs", f"primary=[{EXACT}]", "claims=[]"]
    printed = []
    request = StudyRequest(file, words, against=str(published))
    submit(request, Cluster(), printed.append, print_only=True)
    assert printed[0].startswith("compared with theirs")
    jobs = missing_jobs(request, *resolve_arms(request))
    assert jobs[-1].words[-3:] == ("--gather", "--against", str(published))
    assert all("--against" not in job.words for job in jobs[:-1])
    with pytest.raises(ValueError, match="calls primary can be compared"):
        submit(replace(request, overrides=[*words[:1], "primary=[vqa/accuracy]", *words[2:]]),
               Cluster(), printed.append, print_only=True)  # fmt: skip


@pytest.mark.slow
def test_a_study_comes_back_from_mlflow_with_what_it_was_compared_with(mine, published, tmp_path):
    uri = store_uri("", tmp_path / "runs")
    send_study(mine, uri)
    shutil.rmtree(published)
    back = fetch_study(uri, "mine", tmp_path / "elsewhere")
    for name in (PUBLISHED, OUTCOMES):
        assert (back / AGAINST / name).read_bytes() == (mine / AGAINST / name).read_bytes()
    write_report(back)
    answers = json.loads((back / "answers.json").read_text())
    assert [one["arm"] for one in answers["published"]] == ["published/ar_vq", "published/flow"]
