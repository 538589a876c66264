"""The project's own Python files, and what stands in them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from places import ROOT

PRODUCT = ("unify", "paradigms", "tokenizers")


@cache
def product_files() -> list[Path]:
    """Every file once: the links to paradigms and tokenizers in `unify/` are left out."""
    result = [path for name in PRODUCT for path in (ROOT / name).rglob("*.py")]
    return sorted(p for p in result if not any(part.is_symlink() for part in p.parents))


@cache
def files_of_tests() -> list[Path]:
    return sorted((ROOT / "tests").rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without those of its docstring."""
    first = function.body[0]
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def imported_modules(path: Path) -> set[str]:
    """Full names of what a file imports, at its top or inside of functions."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""  # "" in `from . import name`
            names |= {module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)}
    return names
