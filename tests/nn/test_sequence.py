"""Where tokens stand: golden tables of positions on one axis and on three; images as blocks."""

import pytest
import torch

from unify.nn.init import initialise
from unify.nn.sequence import TokenSequence
from unify.nn.trunk import Trunk

GRID = (2, 3)  # of an image, so that rows and columns cannot be taken for each other


def add_text(sequence, *lengths):
    """A text in each row, the shorter ones padded."""
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return sequence.add(torch.zeros(*real.shape, 4), real)


def add_image(sequence, *present, isolated=False):
    """Boi, patches and eoi in the rows that have an image."""
    shown = torch.tensor(present)[:, None]
    end = torch.zeros(len(shown), 1, 4)
    sequence.add(end, shown, isolated=isolated)
    patches = torch.zeros(len(shown), 6, 4)
    where = sequence.add(patches, shown.expand(-1, 6), GRID, block=True, isolated=isolated)
    sequence.add(end, shown, isolated=isolated)
    return where


def table(sequence):
    """Positions of the real tokens of each row, as a trunk is given them."""
    tokens = sequence.run(lambda tokens, cache: tokens)
    positions = tokens.positions.squeeze(-1)  # of one axis
    pairs = zip(positions, tokens.mask.valid, strict=True)
    return [places[real].tolist() for places, real in pairs]


def test_on_one_axis_real_tokens_are_counted_and_nothing_else():
    sequence = TokenSequence(axes=1)
    add_text(sequence, 3, 1)
    add_image(sequence, True, True)
    add_text(sequence, 1, 2)
    assert table(sequence) == [list(range(3 + 8 + 1)), list(range(1 + 8 + 2))]


def test_on_three_axes_an_image_keeps_the_first_and_spreads_over_row_and_column():
    sequence = TokenSequence(axes=3)
    add_text(sequence, 2)
    add_image(sequence, True)
    add_text(sequence, 2)
    patches = [[3, 3, 3], [3, 3, 4], [3, 3, 5], [3, 4, 3], [3, 4, 4], [3, 4, 5]]
    before, after = [[0] * 3, [1] * 3, [2] * 3], [[6] * 3, [7] * 3, [8] * 3]
    assert table(sequence) == [before + patches + after]


@pytest.mark.parametrize("axes", [1, 3])
def test_a_noised_copy_stands_where_the_clean_one_does_and_moves_nothing(axes):
    plain, both = TokenSequence(axes), TokenSequence(axes)
    for sequence in (plain, both):
        add_text(sequence, 2)
        if sequence is both:
            add_image(sequence, True, isolated=True)
        add_image(sequence, True)
        add_text(sequence, 3)
    (wanted,), (result,) = table(plain), table(both)
    assert result[:10] == wanted[:10]  # text and noised copy
    assert result[:2] + result[10:] == wanted


@pytest.mark.parametrize("axes", [1, 3])
def test_an_image_that_a_row_lacks_takes_no_position(axes):
    sequence, without = TokenSequence(axes), TokenSequence(axes)
    add_text(sequence, 2, 2)
    add_image(sequence, True, False)
    add_text(sequence, 3, 3)
    add_text(without, 2)
    add_text(without, 3)
    assert table(sequence)[1] == table(without)[0] != table(sequence)[0]


def test_images_next_to_each_other_are_blocks_of_their_own():
    sequence = TokenSequence(axes=1)
    one, other = add_image(sequence, True), add_image(sequence, True)
    reads = sequence.mask().dense()[0, 0]
    assert reads[one, one].all()
    assert reads[other, other].all()
    assert reads[other, one].all()
    assert not reads[one, other].any()


def test_a_noised_copy_reads_its_own_delimiters_and_nobody_else_reads_them():
    sequence = TokenSequence(axes=1)
    before = add_text(sequence, 2)
    copies = []
    for _ in range(2):
        noised = add_image(sequence, True, isolated=True)
        copies.append(slice(noised.start - 1, noised.stop + 1))  # with boi and eoi
        clean = add_image(sequence, True)
    after = add_text(sequence, 2)
    reads = sequence.mask().dense()[0, 0]
    for copy in copies:
        assert reads[copy, before].all()
        assert reads[copy.start + 1 : copy.stop, copy.start].all()  # boi
        assert reads[copy.stop - 1, copy].all()  # eoi reads all of it
        outside = torch.ones(len(reads), dtype=torch.bool)
        outside[copy] = False
        assert not reads[outside][:, copy].any()
    assert reads[after, clean].all()


def test_joined_columns_are_one_block_and_what_follows_is_causal():
    sequence = TokenSequence(axes=1, joined=True)
    add_text(sequence, 2, 1)
    add_image(sequence, True, True)
    sequence.joined = False
    start = sequence.length
    after = add_text(sequence, 3, 3)
    image = add_image(sequence, True, True)
    reads = sequence.mask().dense()[1, 0]
    real = sequence.mask().valid[1]
    assert reads[:start, :start][:, real[:start]].all()
    assert not reads[2:, 1].any(), "padding"
    assert not reads[:start, start:].any()
    assert torch.equal(reads[after, after], torch.ones(3, 3).tril().bool())
    assert reads[image, image].all(), "a block of its own"
    assert not reads[after, image].any()


@pytest.mark.parametrize("joined", [False, True])
def test_what_follows_is_read_again_and_again_as_in_one_pass(joined):
    trunk = Trunk(16, 2, 2)
    initialise(trunk, 0)
    generator = torch.Generator().manual_seed(0)
    before, *columns = torch.randn(3, 2, 4, 16, generator=generator)

    def follow(column):
        def add(sequence):
            sequence.add(torch.zeros(2, 1, 16))
            where = sequence.add(column, block=True)
            sequence.add(torch.ones(2, 2, 16))
            return where

        return add

    prefix = TokenSequence(1, joined)
    prefix.add(before)
    read = prefix.reader(trunk)
    for column in [*columns, columns[0]]:
        whole = TokenSequence(1, joined)
        whole.add(before)
        where = follow(column)(whole)
        torch.testing.assert_close(read(follow(column)), whole.run(trunk)[:, where])
