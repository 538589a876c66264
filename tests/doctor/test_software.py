"""Checks of versions, torchvision, compiler and attention on real troubles."""

import sys

import pytest
from doctor_checks import only

from unify.doctor import software


def test_what_is_installed_is_as_required():
    states = {f.name: f.state for f in software.installed()}
    assert states["python"] == states["packages"] == "ok"


@pytest.mark.parametrize(
    ("requirement", "reason"),
    [("torch>=99", "requires torch>=99"), ("no-such-package>=2", "not installed")],
)
def test_a_requirement_that_is_not_met_is_named(requirement, reason):
    result = {f.name: f for f in software.installed(["typer", requirement])}
    wrong = result[requirement.split(">")[0]]
    assert wrong.state == "problem"
    assert reason in wrong.found
    assert f"pip install '{requirement}'" in wrong.do
    assert "packages" not in result


def test_a_malicious_release_costs_every_password(tmp_path, monkeypatch):
    facts = tmp_path / "lightning-2.6.3.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: lightning\nVersion: 2.6.3\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = {f.name: f for f in software.installed(["lightning>=2.6.4,!=2.6.2,!=2.6.3"])}
    assert result["lightning"].found.startswith("2.6.3;")
    assert "change every password" in result["lightning"].do


def test_a_missing_extra_is_a_note():
    result = software.installed(["typer", 'no-such-package; extra == "cluster"'])
    note = next(f for f in result if f.name == "[cluster]")
    assert note.state == "note"
    assert "no-such-package" in note.found
    assert "pip install '.[cluster]'" in note.do


def test_a_torchvision_that_does_not_load(monkeypatch):
    assert only(software.vision()).state == "ok"
    monkeypatch.setitem(sys.modules, "torchvision.ops", None)
    result = only(software.vision())
    assert result.state == "problem"
    assert "from one index" in result.do


@pytest.mark.parametrize("name", ["/nowhere/g++", "false"])
def test_a_compiler_that_does_not_compile(name, monkeypatch):
    monkeypatch.setenv("CXX", name)
    result = only(software.compiler())
    assert result.state != "ok"
    assert name in result.found
    assert "g++" in result.do
    assert "CXX" in result.do


def test_an_xformers_of_another_torch(tmp_path, monkeypatch):
    (tmp_path / "xformers").mkdir()
    (tmp_path / "xformers/__init__.py").write_text("raise RuntimeError('built for another')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "xformers", raising=False)
    _, note = software.attention()
    assert "built for another" in note.found
    assert "uninstall" in note.do
