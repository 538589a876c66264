"""Drawing tokens: filters, inversion, batch independence, stopping."""

import pytest
import torch

from unify.sampling import TextSampler, decode_text, decode_while, draw, filter_logits


def logits(rows=4, size=50):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(0))


def test_no_filter_changes_nothing():
    x = logits()
    assert torch.equal(filter_logits(x, 0, 1.0), x)
    assert torch.equal(filter_logits(x, 50, 1.0), x)


def test_top_1_is_the_most_likely_token():
    x = logits()
    assert torch.equal(draw(x, torch.rand(4), top_k=1), x.argmax(-1))
    assert torch.equal(draw(x, torch.rand(4), temperature=0), x.argmax(-1))


def test_top_p_keeps_the_smallest_set_that_reaches_the_mass():
    x = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert torch.isfinite(filter_logits(x, top_p=0.5)).tolist() == [[True, False, False, False]]
    assert torch.isfinite(filter_logits(x, top_p=0.7)).tolist() == [[True, True, False, False]]
    assert torch.isfinite(filter_logits(x, top_p=1e-9)).sum() == 1


def test_draws_follow_the_distribution():
    x = logits(1, 6).expand(60_000, -1)
    u = (torch.arange(60_000) + 0.5) / 60_000
    share = torch.bincount(draw(x, u), minlength=6) / 60_000
    torch.testing.assert_close(share, x[0].softmax(-1), atol=1e-4, rtol=0)


def test_a_forbidden_token_is_never_drawn():
    x = logits(2, 10)
    x[:, [0, 9]] = -torch.inf
    u = torch.tensor([0.0, 1 - 2**-24])
    assert not torch.isin(draw(x, u), torch.tensor([0, 9])).any()


def test_a_draw_does_not_depend_on_batch_mates():
    x, u = logits(8), torch.rand(8, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([draw(x[i : i + 1], u[i : i + 1], top_k=20, top_p=0.9) for i in range(8)])
    assert torch.equal(draw(x, u, top_k=20, top_p=0.9), alone)


def test_decoding_stops_when_every_row_has_ended_and_pads_with_eos():
    plan = torch.tensor([[1, 2, 0, 3], [1, 0, 3, 3]])  # 0 is eos
    fed = []

    def advance(ids, alive):
        fed.append((ids.tolist(), alive.tolist()))
        return torch.nn.functional.one_hot(plan[:, len(fed)], 4).float()

    first = torch.nn.functional.one_hot(plan[:, 0], 4).float()
    ids = decode_text(first, advance, torch.zeros(2, 4), eos=0, sampler=TextSampler())
    assert ids.tolist() == [[1, 2, 0], [1, 0, 0]]
    assert fed == [([1, 1], [True, True]), ([2, 0], [True, False])]


def test_decoding_stops_at_the_number_of_tokens_that_is_asked_for():
    always = torch.nn.functional.one_hot(torch.tensor([1, 2]), 4).float()  # 0 is eos
    for most in (1, 3):
        ids = decode_text(
            always, lambda ids, alive: always, torch.zeros(2, most), eos=0, sampler=TextSampler()
        )
        assert ids.tolist() == [[1] * most, [2] * most]


def test_another_test_can_keep_decoding_going_for_rows_elsewhere():
    ended = torch.nn.functional.one_hot(torch.tensor([0, 0]), 4).float()  # 0 is eos
    asked = []

    def two_more(unfinished_here):
        asked.append(unfinished_here)
        return len(asked) < 3

    try:
        decode_while(two_more)
        ids = decode_text(ended, lambda ids, alive: ended, torch.zeros(2, 9), 0, TextSampler())
    finally:
        decode_while(bool)
    assert ids.tolist() == [[0, 0, 0]] * 2
    assert asked == [False] * 3
    ids = decode_text(ended, lambda ids, alive: ended, torch.zeros(2, 9), 0, TextSampler())
    assert ids.tolist() == [[0]] * 2


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="temperature"):
        draw(logits(), torch.rand(4), temperature=-1)
    with pytest.raises(ValueError, match="top_p"):
        filter_logits(logits(), top_p=0)
