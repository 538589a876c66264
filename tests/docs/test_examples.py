"""The examples of docs/extending.md, copied out of the repository and run by its commands."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from command_child import Commands

from unify.config import check_file
from unify.runs.folder import Run
from unify.runs.journal import Journal

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "examples"
    return shutil.copytree(EXAMPLES, elsewhere, ignore=shutil.ignore_patterns("__pycache__"))


def unify(*words, cwd):
    """What the command prints; it must succeed."""
    with tempfile.TemporaryDirectory() as kept:
        commands = Commands(Path(kept))
        ended = commands.ended(commands.start(*words, cwd=cwd), 900)
    assert ended.status == 0, ended.out + ended.err
    return ended.out


def trained(folder, file):
    """The run that `unify train` says it has made."""
    printed = unify("train", "-c", file, "machine.tracker=none", cwd=folder)
    run = Run(folder / printed.strip().splitlines()[-1].removeprefix("run: "))
    assert run.finished
    return run


def scores(run):
    rows = json.loads(unify("eval", str(run.folder), "--json", cwd=run.folder.parent))
    return {row["metric"]: row for row in rows}


def losses(run, name):
    """The term of a run by time: first and last third of its records, averaged."""
    values = [record[f"loss/{name}"] for record in Journal(run.folder).records("train")]
    third = len(values) // 3
    return sum(values[:third]) / third, sum(values[-third:]) / third


def test_the_page_shows_every_example_and_its_commands():
    page = (ROOT / "docs" / "extending.md").read_text()
    for path in EXAMPLES.rglob("*.*"):
        if path.suffix in (".py", ".yaml"):
            assert f"examples/{path.relative_to(EXAMPLES)}" in page, path


def test_every_file_passes_the_check(folder):
    files = sorted(folder.rglob("*.yaml"))
    assert len(files) == 8
    assert [problem for path in files for problem in check_file(path)] == []


@pytest.mark.slow
def test_the_paradigm_learns_and_is_scored(folder):
    run = trained(folder / "paradigm", "pixel_flow.yaml")
    assert run.info["paradigm"] == "PixelFlow"
    before, after = losses(run, "flow")
    assert after < 0.8 * before
    assert scores(run)["text_to_image/exact"]["n"] == 32


@pytest.mark.slow
def test_the_tokenizer_is_trained_before_the_paradigm_that_reads_with_it(folder):
    run = trained(folder / "tokenizer", "on_patch_codes.yaml")
    (needed,) = run.info["needed"].values()
    tokenizer = Run(folder / "tokenizer" / needed["folder"])
    assert tokenizer.info["paradigm"] == "PatchCodes"
    assert tokenizer.finished
    before, after = losses(tokenizer, "pixel")
    assert after < 0.3 * before
    assert scores(tokenizer)["tokenizer/psnr"]["value"] > 20


@pytest.mark.slow
def test_the_metric_is_in_the_scores(folder):
    score = scores(trained(folder / "metric", "color_error.yaml"))["text_to_image/abs_error/color"]
    assert score["n"] == 32
    assert 0 < score["low"] <= score["value"] <= score["high"] < 2
    assert score["passport"]["split"] == "test"


@pytest.mark.slow
def test_the_source_is_learned_from(folder):
    run = trained(folder / "source", "gratings.yaml")
    before, after = losses(run, "text_ce")
    assert after < 0.6 * before
    assert scores(run)["caption/perplexity"]["value"] < 2  # of 260 ids


@pytest.mark.slow
def test_the_task_is_learned_by_a_shipped_paradigm_and_reported(folder):
    printed = unify("study", "study.yaml", "machine.tracker=none", cwd=folder / "task")
    study = folder / "task" / "runs" / "inpainting"
    rows = json.loads((study / "results.json").read_text())
    values = {(row["arm"], row["metric"]): row["value"] for row in rows}
    for arm in ("shallow", "deep"):
        assert values[arm, "inpaint/abs_error"] < 0.8 * values[arm, "inpaint/abs_error/gray"]
    assert "inpaint/abs_error" in printed
    assert ">Inpaint<" in (study / "report.html").read_text()


@pytest.mark.parametrize(
    ("tests", "example"),
    [
        pytest.param("attention generation training", "paradigm", marks=pytest.mark.slow),
        pytest.param("every_tokenizer", "tokenizer", marks=pytest.mark.drill),
        pytest.param("every_metric", "metric", marks=pytest.mark.drill),
        pytest.param("every_source", "task", marks=pytest.mark.drill),
    ],
)
def test_the_contract_tests_pick_up_a_part_of_a_folder(folder, tests, example):
    files = [str(ROOT / "tests" / "contracts" / f"test_{name}.py") for name in tests.split()]
    options = ["--experiments", str(folder / example), "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *files, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
