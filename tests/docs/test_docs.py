"""What the documentation names is there."""

import glob
import re

import pytest
import typer
from docs_pages import PAGES, ROOT, anchors, commands, is_there, links, name_of

from unify.cli import app

page_by_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def test_every_test_that_proves_an_invariant_is_there():
    page = (ROOT / "docs/invariants.md").read_text()
    proved = page.partition("## Not tested here")[0]
    rows = [line for line in proved.splitlines() if line.startswith("| ") and "::" in line]
    stated = re.match(r"# .*\n\n(\d+) invariants", page)
    assert stated is not None
    assert int(stated[1]) == len(rows)
    assert f"[{stated[1]} invariants]" in (ROOT / "README.md").read_text()
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page):
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.M), f"{path}::{name}"


@page_by_page
def test_every_link_resolves(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@page_by_page
def test_every_path_that_a_page_names_is_there(page):
    named = re.findall(
        r"(?<![\w/.<-])(?:unify|experiments|paradigms|tokenizers|tests|docs)/[\w./*-]*",
        page.read_text(),
    )
    missing = [path for path in named if not glob.glob(str(ROOT / path.rstrip(".")))]
    assert not missing


@page_by_page
def test_every_class_and_module_that_a_page_names_is_there(page):
    text = page.read_text()
    if page.name == "migration.md":
        text = re.sub(r"^\| `[\w.]+` \|", "|", text, flags=re.M)  # the column of old names
        text = text.partition("## What to mind")[0]
    named = re.findall(r"(?<![\w/.])unify(?:\.\w+)+(?![\w/(])", text)
    missing = [name for name in named if not is_there(name)]
    assert not missing


@page_by_page
def test_every_command_and_option_that_a_page_shows_is_there(page):
    for line in commands(page):
        words, command = line.split(), typer.main.get_command(app)
        while hasattr(command, "commands") and not words[0].startswith("-"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        options = {word for word in words if re.match(r"--?[a-z]", word)}
        assert options <= known | {"--help", "--debug"}, line


def test_the_migration_names_modules_that_have_gone():
    page = (ROOT / "docs/migration.md").read_text().partition("## What was renamed")[0]
    before = re.findall(r"^\| `([\w.]+)` \| `", page, re.M)
    files = [ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in before]
    assert len(files) == len({*files}) > 0
    assert not [file for file in files if file.exists()]
