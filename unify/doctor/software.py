"""Versions, and what breaks although the versions are right."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from unify.doctor.finding import Finding, State, cause

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PROJECT = "unify-multimodal"
NAMED = ("torch", "torchvision", "lightning", "transformers", "mlflow")  # shown if all is well
EXTRAS = {"gpu": "machine.attention=xformers", "cluster": "unify submit"}  # and what needs them
MALICIOUS = {"lightning": ("2.6.2", "2.6.3")}  # GHSA-w37p-236h-pfx3
TOGETHER = "; torch and torchvision from one index, in one command"


def installed(requirements: Sequence[str] | None = None) -> list[Finding]:
    """Python and all packages against what the installed project requires, extras apart."""
    from packaging.requirements import Requirement

    try:
        listed = requires(PROJECT) if requirements is None else requirements
        python = _python(metadata(PROJECT)["Requires-Python"])
    except PackageNotFoundError:
        found = f"{PROJECT} is not installed, so what it requires is unknown"
        return [Finding("packages", "note", found, "pip install -e . in its repository")]
    needed = [Requirement(text) for text in listed or []]
    plain = [r for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = [_unmet(r) for r in plain if _wrong(r)]
    names = [f"{n} {version(n)}" for n in NAMED if n in {r.name for r in plain} and not wrong]
    all_well = Finding("packages", "ok", f"all {len(plain)} as required: {', '.join(names)}")
    return [python, *(wrong or [all_well]), *_extras(needed)]


def _python(specifier: str) -> Finding:
    from packaging.specifiers import SpecifierSet

    here = platform.python_version()
    if SpecifierSet(specifier).contains(here, prereleases=True):
        return Finding("python", "ok", here)
    do = f"make the environment anew with a Python {specifier}"
    return Finding("python", "problem", f"{here}; {PROJECT} requires {specifier}", do)


def _wrong(requirement: Requirement) -> str:
    """What is installed instead of the required version; empty where that is met."""
    try:
        current = version(requirement.name)
    except PackageNotFoundError:
        return "not installed"
    return "" if requirement.specifier.contains(current, prereleases=True) else current


def _unmet(requirement: Requirement) -> Finding:
    current, name = _wrong(requirement), requirement.name
    do = f"pip install '{name}{requirement.specifier}'"
    if name in ("torch", "torchvision"):
        do += TOGETHER
    if current in MALICIOUS.get(name, ()):
        do += (
            "; this release was malicious: change every password and token that this account "
            "could read"
        )
    required = f"{PROJECT} requires {name}{requirement.specifier}"
    return Finding(name, "problem", f"{current}; {required}", do)


def _extras(needed: Sequence[Requirement]) -> list[Finding]:
    """A note for each extra whose packages are not installed."""
    notes = []
    for extra, user in EXTRAS.items():
        lacks = [
            r.name
            for r in needed
            if r.marker is not None
            and r.marker.evaluate({"extra": extra})
            and not r.marker.evaluate({"extra": ""})
            and _wrong(r)
        ]
        if lacks:
            do = f"pip install '.[{extra}]' in the repository, if you want `{user}`"
            notes.append(Finding(f"[{extra}]", "note", f"without {', '.join(lacks)}", do))
    return notes


def vision() -> list[Finding]:
    """Check that torchvision's operators load: without them Lightning cannot be imported."""
    both = f"torchvision {version('torchvision')} beside torch {version('torch')}"
    try:
        import torch
        from torchvision.ops import nms

        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except Exception as error:
        do = f"pip install --force-reinstall torch torchvision{TOGETHER}"
        return [Finding("torchvision", "problem", f"{both} does not load: {cause(error)}", do)]
    return [Finding("torchvision", "ok", both)]


def compiler() -> list[Finding]:
    """Check the compiler and headers that torch.compile, and so FlexAttention, needs."""
    import torch

    named = os.environ.get("CXX", "")
    command = shlex.split(named) or [c for c in ("g++", "clang++") if shutil.which(c)][:1]
    state: State = "problem" if torch.cuda.is_available() else "note"
    needs = "machine.compile, and FlexAttention on GPUs"
    if not command or not shutil.which(command[0]):
        found = f"{named or 'g++'} is not here: no torch.compile"
        do = f"install g++ (or load its module, or set CXX) for {needs}"
        return [Finding("compiler", state, found, do)]
    done = subprocess.run(
        [*command, "-fsyntax-only", "-xc++", f"-I{sysconfig.get_path('include')}", "-"],
        input="#include <Python.h>\n#include <vector>\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 0:
        return [Finding("compiler", "ok", f"{shutil.which(command[0])}, with Python's headers")]
    reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]
    do = f"install g++ and Python's headers (python3-dev), or set CXX, for {needs}"
    return [Finding("compiler", state, f"{command[0]} does not compile for Python: {reason}", do)]


def attention() -> list[Finding]:
    """The backends that `machine.attention` may name on this machine."""
    import torch

    names, notes = ["sdpa"], []
    if torch.cuda.is_available():
        if find_spec("triton"):
            names.append("flex")
        else:
            do = "pip install triton, or machine.attention=sdpa"
            notes.append(Finding("attention", "problem", "no triton: FlexAttention fails", do))
    if find_spec("xformers"):
        try:
            from xformers.ops import memory_efficient_attention  # noqa: F401

            names.append("xformers")
        except Exception as error:
            do = "install the xformers that was built for this torch, or uninstall it"
            notes.append(Finding("attention", "note", f"xformers fails: {cause(error)}", do))
    only = "" if torch.cuda.is_available() else " (flex trains on CUDA devices only)"
    return [Finding("attention", "ok", ", ".join(names) + only), *notes]
