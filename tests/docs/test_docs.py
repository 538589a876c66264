"""What the documentation names is there."""

import re

import pytest
from places import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_test_that_proves_an_invariant_is_there():
    page = (ROOT / "docs/invariants.md").read_text()
    proved = page.partition("## Not tested here")[0]
    rows = [line for line in proved.splitlines() if line.startswith("| ") and "::" in line]
    said = re.match(r"# .*\n\n(\d+) invariants", page)
    assert said is not None
    assert int(said[1]) == len(rows)
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page):
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.M), f"{path}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_links_to_is_there(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert all((page.parent / link).exists() for link in links), links
