"""What a newcomer's file imports: listed in docs/extending.md, there, and documented."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()
FILES = sorted((ROOT / "docs" / "examples").rglob("*.py"))


def listed():
    """The (module, name) pairs of the page's last block."""
    block = re.search(r"## What you import.*?```\n(.*?)```", PAGE, re.S)
    assert block is not None
    lines = [line.split(": ") for line in block[1].strip().splitlines()]
    return [(module, name) for module, names in lines for name in names.split(", ")]


def imported(path):
    """The (module, name) pairs that a file takes from unify; a whole module counts as (it, *)."""
    result = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "unify":
            result |= {(node.module, alias.name) for alias in node.names}
        if isinstance(node, ast.Import):
            result |= {(a.name, "*") for a in node.names if a.name.split(".")[0] == "unify"}
    return result


@pytest.mark.parametrize(("module", "name"), listed())
def test_a_public_name_is_there_and_says_what_it_is(module, name):
    thing = getattr(importlib.import_module(module), name)
    if not inspect.isclass(thing) and not inspect.isfunction(thing):
        return  # a type alias, or TASKS: it is documented where it is defined
    assert thing.__doc__, f"{name} has no docstring"
    assert not thing.__doc__.startswith(f"{name}("), f"{name} has dataclass's own docstring alone"
    if not inspect.isclass(thing):
        return
    for method, function in inspect.getmembers(thing, inspect.isfunction):
        if function.__qualname__ == f"{name}.{method}" and not method.startswith("_"):
            inherited = any(hasattr(base, method) for base in thing.__mro__[1:])
            assert inherited or function.__doc__, f"{name}.{method} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_example_imports_public_names_alone(path):
    taken = imported(path)
    assert taken
    assert taken <= set(listed())


def test_the_list_of_imports_sees_every_form():
    source = "from unify.batch import Batch\nimport unify.noise as n\nimport os\n"
    path = type("File", (), {"read_text": lambda self: source})()
    assert imported(path) == {("unify.batch", "Batch"), ("unify.noise", "*")}
