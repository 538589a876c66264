"""Records collated to batches: columns of source images and who has one."""

import numpy as np
import pytest
import torch
from tiny_source import Tiny

from unify.data.module import Data
from unify.data.source import Record, collate


class Several(Tiny):
    """Record i has 1 + i % 3 of three source images, of one colour each: 10 i + their number."""

    tasks = frozenset({"edit"})

    def size(self, task, split):
        return 12

    def record(self, task, split, index):
        shown = [np.full((8, 8, 3), 10 * index + n, np.uint8) for n in range(1 + index % 3)]
        several = {"sources": shown + [None] * (3 - len(shown))}
        target = np.zeros((16, 16, 3), np.uint8)
        return Record(str(index), {**several, "instruction": "mix", "image": target})


def test_several_sources_are_as_many_columns_with_who_has_one():
    for rows in (1, 5):  # the shapes of a step follow from the config alone
        for batches in Data(Several(), {"edit": rows}).train_batches(0, 1, 0, 4):
            *sources, asked, target = batches["edit"].segments
            assert [segment.role for segment in sources] == ["condition"] * 3
            assert asked.texts == ["mix"] * rows
            assert target.images.shape == (rows, 3, 16, 16)
            for n, segment in enumerate(sources):
                assert segment.images.shape == (rows, 3, 8, 8)
                for row, key in enumerate(map(int, batches["edit"].keys)):
                    given = n <= key % 3
                    assert segment.present[row] == given
                    wanted = (10 * key + n) / 127.5 - 1 if given else 0.0
                    assert torch.allclose(segment.images[row], torch.tensor(wanted))


def test_one_source_and_a_list_of_one_are_the_same_batch():
    image = np.full((8, 8, 3), 7, np.uint8)
    one, listed = (
        collate("edit", [Record("a", {**given, "instruction": "mix", "image": image})])
        for given in ({"source": image}, {"sources": [image]})
    )
    assert torch.equal(one.segments[0].images, listed.segments[0].images)
    assert torch.equal(one.segments[0].present, listed.segments[0].present)


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        ([[1, None], [1]], "record 1 has 1 source images in 1 places, and 0 has 2 places"),
        ([[1, 2], [None, None]], "record 1 has 0 source images in 2 places"),
    ],
)
def test_records_without_a_fixed_number_of_sources_are_named(shown, message):
    image = np.zeros((8, 8, 3), np.uint8)
    rows = [[None if x is None else image for x in row] for row in shown]
    records = [
        Record(str(i), {"sources": row, "instruction": "mix", "image": image})
        for i, row in enumerate(rows)
    ]
    with pytest.raises(ValueError, match=message):
        collate("compose", records)
