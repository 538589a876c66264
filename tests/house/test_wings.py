"""Imports run downward, without circles; and what holds them sees paradigms and tokenizers too."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT
from wings import CONTRACTS, imports_between_wings, levels

COMMAND = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
MOST_LEVELS, MOST_FILES_AT_THE_ROOT = 15, 8


def lint(folder):
    done = subprocess.run(
        COMMAND, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(folder)}
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copied(tmp_path):
    """The product alone, where it can be spoiled."""
    for name in ("unify", "paradigms", "tokenizers"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_run_downward_and_in_no_circle():
    status, output = lint(ROOT)
    assert status == 0, output


@pytest.mark.parametrize(
    ("file", "line", "named"),
    [
        ("paradigms/ar_vq.py", "import unify.report.page", "unify.paradigms.ar_vq"),
        ("tokenizers/vq.py", "import unify.training.trainer", "unify.tokenizers.vq"),
        ("unify/batch.py", "def late():\n    import unify.nn.trunk", "unify.batch"),
        ("unify/nn/masks.py", "import unify.nn.attention", "unify.nn"),
    ],
)
def test_an_upward_import_and_a_circle_are_seen(copied, file, line, named):
    with (copied / file).open("a") as module:
        module.write(f"\n{line}\n")
    status, output = lint(copied)
    assert status == 1
    assert named in output


def test_few_levels_and_few_files_at_the_root():
    wings = [level for level in levels() if level != ["contracts"]]
    assert len(wings) <= MOST_LEVELS
    files = [path.stem for path in (ROOT / "unify").glob("*.py")]
    assert len(files) <= MOST_FILES_AT_THE_ROOT
    assert set(files) == {"__init__", "cli", *CONTRACTS}


def test_the_printed_graph_has_every_wing_and_points_down():
    height = {name: number for number, names in enumerate(levels()) for name in names}
    arrows = imports_between_wings()
    assert arrows["paradigms", "nn"] > 10
    for start, to in arrows:
        assert start == "cli" or height[start] > height[to], (start, to)
