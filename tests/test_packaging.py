"""The folders `tokenizers/` and `paradigms/`: importable as ours, never in Hugging Face's way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

PROBE = """
import tokenizers, transformers, sys
from transformers import PreTrainedTokenizerFast
import unify.paradigms.ar_vq, unify.tokenizers.vq, unify.tokenizers.text
import unify.report.style  # reads page.css
print(tokenizers.__file__)
print(unify.tokenizers.vq.__file__)
print(unify.paradigms.ar_vq.__file__)
"""


def probe(cwd, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.split()]


def test_top_level_folders_are_no_packages():
    for name in ("tokenizers", "paradigms"):
        assert not (ROOT / name / "__init__.py").exists()
        link = ROOT / "unify" / name
        assert link.is_symlink()
        assert os.readlink(link) == f"../{name}"


@pytest.mark.slow
@pytest.mark.parametrize("where", ["root", "elsewhere"])
def test_hugging_face_tokenizers_is_not_shadowed(where, tmp_path):
    theirs, vq, ar = probe(ROOT if where == "root" else tmp_path)
    assert "site-packages" in theirs.parts
    assert vq.resolve() == ROOT / "tokenizers" / "vq.py"
    assert ar.resolve() == ROOT / "paradigms" / "ar_vq.py"


@pytest.mark.slow
def test_an_installed_wheel_has_both(tmp_path):
    wheel, site = tmp_path / "wheel", tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheel), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, cwd=tmp_path)
    (file,) = wheel.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(site), str(file)], check=True, cwd=tmp_path
    )
    theirs, vq, ar = probe(tmp_path, PYTHONPATH=str(site))
    assert "site-packages" in theirs.parts
    assert vq == site / "unify" / "tokenizers" / "vq.py"
    assert ar == site / "unify" / "paradigms" / "ar_vq.py"
    assert not (site / "tokenizers").exists()
    command = [sys.executable, "-m", "unify.cli", "experiments", "experiments"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    subprocess.run(command, check=True, cwd=tmp_path, env=environment)
    for path in (ROOT / "experiments").rglob("*.yaml"):
        copy = tmp_path / path.relative_to(ROOT)
        assert copy.read_bytes() == path.read_bytes()


def test_constraints_are_names_and_versions_only():
    for line in (ROOT / "constraints.txt").read_text().split():
        name, version = line.split("==")
        assert name
        assert version[0].isdigit()
    assert "lightning==2.6.2" not in (ROOT / "constraints.txt").read_text()
    assert "lightning==2.6.3" not in (ROOT / "constraints.txt").read_text()
