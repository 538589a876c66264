"""README and the index of the documentation: short, complete, and as the sources are."""

import re
import tomllib

import pytest
from docs_pages import EXCERPT, PAGES, README, ROOT, links, name_of, with_excerpts

INDEX = ROOT / "docs/README.md"
WING = re.compile(r"unify\.(\w+)")


def tree() -> list[str]:
    """The paths in the tree that the index shows."""
    block = re.search(r"## Where what is.*?```\n(.*?)```", INDEX.read_text(), re.S)
    assert block is not None
    paths, folder = [], ""
    for indent, name in re.findall(r"^( *)(\S+/)", block[1], re.M):
        folder = folder if indent else name
        paths.append(folder + name if indent else name)
    return paths


def test_every_folder_in_the_tree_is_there():
    assert [path for path in tree() if not (ROOT / path).is_dir()] == []


def test_the_tree_has_every_folder_of_the_package_once():
    folders = {f"unify/{file.parent.name}/" for file in (ROOT / "unify").glob("*/*.py")}
    assert sorted(p for p in tree() if re.fullmatch(r"unify/\w+/", p)) == sorted(folders)


def test_the_tree_has_the_order_of_the_imports():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c["layers"] for c in contracts["contracts"] if c["type"] == "layers")
    level = {f"unify/{name}/": i for i, line in enumerate(layers) for name in WING.findall(line)}
    levels = [level[path] for path in tree() if path in level]
    assert levels == sorted(levels)


def test_the_index_names_what_stands_at_the_root_of_the_package():
    named = re.findall(r"`(\w+\.py)`", INDEX.read_text().rpartition("```")[2])
    files = {file.name for file in (ROOT / "unify").glob("*.py")}
    assert {*named} == files - {"__init__.py", "cli.py"}


def test_the_index_has_every_page():
    pages = {page.name for page in INDEX.parent.glob("*.md")} - {"README.md"}
    assert pages <= {*links(INDEX)}


def test_readme_links_to_every_page():
    pages = {f"docs/{page.name}" for page in INDEX.parent.glob("*.md")} - {"docs/README.md"}
    assert pages <= {*links(README)}


def test_readme_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) <= 200
    assert [line for line in lines if len(line) > (230 if line.startswith("|") else 110)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_excerpts_are_as_in_the_source(page):
    """When this fails: python tests/docs_pages.py."""
    assert with_excerpts(page.read_text()) == page.read_text()


def test_readme_shows_the_loss_of_a_paradigm():
    assert [match[2] for match in EXCERPT.finditer(README.read_text())]
