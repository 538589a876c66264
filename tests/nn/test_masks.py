"""The mask rule: one definition, three forms, against the fact sheets and a reference in loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unify.nn.masks import CAUSAL, SHARED, Mask

COLUMN = st.tuples(
    st.integers(1, 4),  # tokens
    st.sampled_from(["text", "image", "isolated"]),
    st.booleans(),  # does a new document begin here?
    st.integers(0, 2),  # padding after it
)
LAYOUT = st.lists(COLUMN, min_size=1, max_size=6)


def lay_out(columns) -> Mask:
    """One row from (tokens, kind, new document, padding) columns."""
    document, segment, isolated, valid = [], [], [], []
    for place, (tokens, kind, begins, padding) in enumerate(columns):
        now = (document[-1] if document else 0) + begins
        document += [now] * (tokens + padding)
        segment += [CAUSAL if kind == "text" else place] * (tokens + padding)
        isolated += [place if kind == "isolated" else SHARED] * (tokens + padding)
        valid += [True] * tokens + [False] * padding
    return Mask(*(torch.tensor([ids]) for ids in (document, segment, isolated, valid)))


def reference(mask: Mask, row: int, q: int, k: int) -> bool:
    """The rule in words, one pair at a time."""
    document, segment, isolated, valid = (ids[row].tolist() for ids in mask.ids)
    if q == k:
        return True
    if not valid[k] or document[q] != document[k]:
        return False
    if isolated[k] != SHARED and isolated[q] != isolated[k]:
        return False
    return k < q or (segment[q] == segment[k] and segment[k] != CAUSAL)


def expanded(block, queries: int, keys: int) -> torch.Tensor:
    """FlexAttention's view of the mask: what its full and partial blocks let through."""
    from torch.nn.attention.flex_attention import create_mask

    rows = block.shape[0]
    cells = create_mask(block.mask_mod, rows, 1, queries, keys, device="cpu")
    visited = block.to_dense().bool()  # [B 1 blocks blocks]
    size_q, size_k = block.BLOCK_SIZE
    wide = visited.repeat_interleave(size_q, -2).repeat_interleave(size_k, -1)
    return cells & wide[..., :queries, :keys]


@settings(max_examples=40, deadline=None)
@given(LAYOUT)
def test_dense_equals_the_rule_in_loops(columns):
    mask = lay_out(columns)
    dense = mask.dense()[0, 0]
    for q in range(mask.keys):
        for k in range(mask.keys):
            assert bool(dense[q, k]) == reference(mask, 0, q, k)


@settings(max_examples=40, deadline=None)
@given(LAYOUT, st.integers(0, 5))
def test_dense_equals_mod_on_every_pair_also_from_a_later_query(columns, start):
    mask = lay_out(columns)
    mask = mask.queries(min(start, mask.keys - 1))
    dense = mask.dense()
    assert dense.shape == (1, 1, mask.keys - mask.start, mask.keys)
    for q in range(mask.keys - mask.start):
        for k in range(mask.keys):
            assert mask.mod(0, 0, q, k) == dense[0, 0, q, k]


@settings(max_examples=10, deadline=None)
@given(LAYOUT, st.integers(0, 3))
def test_block_mask_lets_through_what_dense_does(columns, start):
    mask = lay_out(columns).queries(start if len(columns) > start else 0)
    assert torch.equal(expanded(mask.block(), mask.keys - mask.start, mask.keys), mask.dense())


def test_block_mask_of_many_blocks_and_rows_lets_through_what_dense_does():
    layouts = [
        [(40, "text", False, 3), (150, "isolated", False, 0), (150, "image", False, 7)],
        [(200, "image", False, 0), (50, "text", True, 10), (90, "text", False, 0)],
    ]
    rows = [lay_out(columns) for columns in layouts]
    mask = Mask(*(torch.cat(ids) for ids in zip(*(m.ids for m in rows), strict=True)))
    assert torch.equal(expanded(mask.block(), 350, 350), mask.dense())


def test_a_noised_copy_a_clean_copy_and_features_of_one_image_read_as_in_bagel():
    # 2 text | noised b p p e | clean b p p e | features b v e | 2 text || 2 text of another sample
    columns = [
        (2, "text", False, 0),
        (4, "isolated", False, 0),
        (4, "image", False, 0),
        (3, "image", False, 0),
        (2, "text", False, 0),
        (2, "text", True, 0),
    ]
    picture = ["".join(".#"[int(cell)] for cell in row) for row in lay_out(columns).dense()[0, 0]]
    assert picture == [
        "#................",
        "##...............",
        *["######..........."] * 4,
        *["##....####......."] * 4,
        *["##....#######...."] * 3,
        "##....########...",
        "##....#########..",
        "...............#.",
        "...............##",
    ]


def test_later_text_reads_an_image_that_is_not_isolated():
    dense = lay_out([(1, "text", False, 0), (2, "image", False, 0), (1, "text", False, 0)]).dense()
    assert dense[0, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


@settings(max_examples=30, deadline=None)
@given(LAYOUT)
def test_every_row_reads_itself_and_padding_is_read_by_nobody_else(columns):
    mask = lay_out(columns)
    dense = mask.dense()[0, 0]
    assert dense.diagonal().all()
    others = dense & ~torch.eye(mask.keys, dtype=torch.bool)
    assert not others[:, ~mask.valid[0]].any()


def test_columns_joined_one_by_one_are_the_whole_and_rows_can_be_picked():
    valid = torch.tensor([[True, True], [True, False]])
    parts = [Mask.causal(valid), Mask.full(valid, segment=3), Mask.full(valid, 4, isolated=0)]
    mask = Mask.cat(parts)
    assert mask.segment[0].tolist() == [CAUSAL, CAUSAL, 3, 3, 4, 4]
    assert mask.isolated[1].tolist() == [SHARED] * 4 + [0] * 2
    swapped = mask.queries(2).rows(torch.tensor([1, 0, 1]))
    assert torch.equal(swapped.dense(), mask.queries(2).dense()[[1, 0, 1]])


def test_pairs_count_what_is_read():
    valid = torch.ones(3, 5, dtype=torch.bool)
    assert Mask.causal(valid).pairs() == 3 * 15
    assert Mask.full(valid).pairs() == 3 * 25
    assert Mask.full(valid).queries(4).pairs() == 3 * 5


def test_bias_is_zero_where_dense_is_true_and_minus_infinity_elsewhere():
    mask = lay_out([(2, "text", False, 1), (2, "image", True, 0)])
    bias = mask.bias(torch.float32)
    assert torch.equal(bias == 0, mask.dense())
    assert (bias[~mask.dense()] == -torch.inf).all()


@pytest.mark.parametrize("form", ["dense", "block"])
def test_forms_are_built_once(form):
    mask = Mask.causal(torch.ones(1, 4, dtype=torch.bool))
    assert getattr(mask, form)() is getattr(mask, form)()
