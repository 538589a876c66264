"""Numbers and lists in words."""

import pytest

from unify.answers.words import seeds_text


@pytest.mark.parametrize(
    ("seeds", "printed"),
    [
        ([3], "seed 3"),
        ([0, 1], "seeds 0 and 1"),
        ([0, 1, 2], "seeds 0 to 2"),
        ([0, 1, 3], "seeds 0, 1 and 3"),
    ],
)
def test_seeds_in_words(seeds, printed):
    assert seeds_text(seeds) == printed
