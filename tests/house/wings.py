"""Prints the wings of `unify/`, level by level, and what each imports: python tests/house/wings.py

The levels are those of the layers contract in pyproject.toml, which `lint-imports` holds.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
ROOTS = ("unify", "unify.paradigms", "unify.tokenizers")
CONTRACTS = ("batch", "flow", "noise", "paradigm", "sampling", "tokenizer")  # modules at the root


def layers() -> list[list[str]]:
    """The lines of the layers contract, from the ground up; each names wings side by side."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    lines = next(c["layers"] for c in settings["contracts"] if c["type"] == "layers")
    return [[name.strip() for name in line.split("|")] for line in reversed(lines)]


def levels() -> list[list[str]]:
    """Layers of wings alone, the contracts at the root of `unify/` taken as one."""
    result: list[list[str]] = []
    for line in layers():
        names = [name.removeprefix("unify.") for name in line if name != "unify.cli"]
        if names and set(names) <= set(CONTRACTS):
            names = ["contracts"]
        if names and names != result[-1:] and (not result or result[-1] != names):
            result.append(names)
    return result


def wing_of(module: str) -> str:
    name = module.split(".")[1] if "." in module else "unify"
    return "contracts" if name in CONTRACTS else name


def imports_between_wings() -> Counter[tuple[str, str]]:
    """(importing wing, imported wing) -> how many imports."""
    graph = grimp.build_graph(*ROOTS)
    pairs = (
        (wing_of(module), wing_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    )
    return Counter(pair for pair in pairs if pair[0] != pair[1] and "unify" not in pair)


def main() -> None:
    arrows = imports_between_wings()
    for number, names in reversed(list(enumerate(levels(), 1))):
        for name in names:
            below = sorted(f"{to} {n}" for (start, to), n in arrows.items() if start == name)
            print(f"{number:2}  {name:<12} {', '.join(below)}")


if __name__ == "__main__":
    main()
