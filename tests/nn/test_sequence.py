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


SQUARE = [[row, column] for row in range(2) for column in range(3)]  # of an image on GRID


@pytest.mark.parametrize(
    ("references", "steps"),
    [("shared", (0, 0)), ("offset", (1, 1)), ("frame", (1, 2))],
)
def test_references_lie_beside_the_target_and_take_no_position(references, steps):
    sequence = TokenSequence(3, references=references)
    add_image(sequence, True)
    add_image(sequence, True)
    add_text(sequence, 2)
    sequence.begin_target()
    add_image(sequence, True)
    # boi and eoi of each reference, two words and the target's boi count up
    count = [[n] * 3 for n in range(7)]
    origin = 7
    first, second, target = (
        [[origin + step, origin + row, origin + column] for row, column in SQUARE]
        for step in (*steps, 0)
    )
    after = [[origin + 3] * 3]  # eoi, behind the longer side of the target
    wanted = [count[0], *first, *count[1:3], *second, *count[3:], *target, *after]
    assert table(sequence) == [wanted]


def test_in_order_references_are_images_like_any_other():
    plain, asked = TokenSequence(3), TokenSequence(3, references="order")
    for sequence in (plain, asked):
        add_image(sequence, True)
        add_text(sequence, 2)
    asked.begin_target()
    for sequence in (plain, asked):
        add_image(sequence, True)
    assert table(plain) == table(asked)


def test_a_row_that_lacks_a_reference_has_its_target_where_its_own_words_end():
    sequence = TokenSequence(3, references="frame")
    add_image(sequence, True, False)
    add_text(sequence, 2, 1)
    sequence.begin_target()
    where = add_image(sequence, True, True)
    rows = table(sequence)
    assert [row[-7] for row in rows] == [[5] * 3, [2] * 3], "boi, eoi, two words, boi; a word, boi"
    assert where.stop - where.start == 6


def test_a_sequence_whose_references_have_no_place_yet_is_not_run():
    sequence = TokenSequence(3, references="shared")
    add_image(sequence, True)
    with pytest.raises(AssertionError, match="begin_target"):
        table(sequence)
