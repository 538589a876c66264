"""docs/paradigms.md has what `unify paradigms` prints of the experiments that it lists."""

import re

import pytest
from places import EXPERIMENTS, ROOT

from unify.config import load_recipe
from unify.evaluation.side_by_side import facts_of
from unify.report.side_by_side import markdown, svg

PAGE = ROOT / "docs/paradigms.md"


@pytest.mark.slow  # builds every experiment of the page and draws a picture with each
def test_the_page_and_its_picture_are_what_the_command_makes():
    """When this fails, run the command that stands on the page, and put in what it prints."""
    page = PAGE.read_text()
    command = re.search(r"^unify paradigms (.*?)\n```", page, re.M | re.S)
    assert command is not None
    names = re.findall(r"experiments/(\S+\.yaml)", command[1])
    facts = [facts_of(load_recipe(EXPERIMENTS / name)) for name in names]
    for table in markdown(facts).split("\n\n"):
        assert table in page
    assert svg(facts) == (ROOT / "docs/paradigms.svg").read_text()
