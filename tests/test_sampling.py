"""Drawing tokens: filters, inversion, batch independence, stopping; in order, and in parallel."""

import math
from itertools import pairwise

import pytest
import torch

from unify.sampling import (
    BlockSampler,
    ParallelSampler,
    TextSampler,
    decode_blocks,
    decode_parallel,
    decode_text,
    decode_while,
    draw,
    filter_logits,
    gumbel,
)


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


# Hidden tokens in parallel

PLACES, IDS = 10, 6


def network(seed=0):
    """Logits [B N V] of hidden places, as some function of the known ids and of nothing else."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(PLACES, IDS + 1, PLACES, IDS, generator=generator)

    def predict(ids, hidden):
        seen = ids.masked_fill(hidden, IDS)
        return 2 * weight[torch.arange(PLACES), seen].sum(1).tanh()

    return predict


def uniforms(rows=3, passes=PLACES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, rows, passes, PLACES, generator=generator)


def unknown(rows=3):
    return torch.zeros(rows, PLACES, dtype=torch.long), torch.ones(rows, PLACES, dtype=torch.bool)


def seen_by(predict):
    calls = []

    def spy(ids, hidden):
        calls.append(hidden.clone())
        return predict(ids, hidden)

    return spy, calls


@pytest.mark.parametrize("tau", [0.0, 1.5])
def test_one_token_in_each_pass_is_the_sequential_sampler(tau):
    """The loop: draw at every hidden place, keep the token that is surest, go on."""
    predict, (draws, choices) = network(), uniforms()
    sampler = ParallelSampler(schedule="linear", choice_temperature=tau)
    result = decode_parallel(predict, *unknown(), draws, choices, sampler)
    for row in range(3):
        ids, hidden = (x[0] for x in unknown())
        for step in range(PLACES):
            scores = predict(ids[None], hidden[None])[0].double().log_softmax(-1)
            best, kept = -torch.inf, None
            for place in hidden.nonzero().flatten().tolist():
                token = draw(scores[place : place + 1], draws[row, step, place : place + 1]).item()
                gumbel = -(-choices[row, step, place].double().log()).log()
                sure = scores[place, token] + tau * (1 - (step + 1) / PLACES) * gumbel
                if sure > best:
                    best, kept = sure, (place, token)
            place, token = kept
            ids[place], hidden[place] = token, False
        assert result[row].tolist() == ids.tolist()


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("passes", [1, 3, 7, PLACES])
def test_known_ids_never_change_and_none_stays_hidden(schedule, passes):
    predict, calls = seen_by(network())
    ids, hidden = unknown()
    ids[:, 4:] = torch.arange(6)
    hidden[0, 4:], hidden[1, 6:], hidden[2, 1:] = False, False, False  # 4, 6 and 1 hidden
    garbage = torch.where(hidden, 5, ids)
    results = []
    for given in (ids, garbage):
        settings = ParallelSampler(schedule=schedule)
        results.append(decode_parallel(predict, given, hidden, *uniforms(passes=passes), settings))
    assert torch.equal(*results), "what is hidden was read"
    assert torch.equal(results[0][~hidden], ids[~hidden])
    for before, after in pairwise(calls[:passes]):
        assert not (after & ~before).any(), "what was known is hidden again"
        assert (after.sum(1) <= before.sum(1)).all()
    alone = [
        decode_parallel(
            network(), ids[r : r + 1], hidden[r : r + 1], *uniforms(passes=passes)[:, r : r + 1],
            ParallelSampler(schedule=schedule),
        )
        for r in range(3)
    ]  # fmt: skip
    assert torch.equal(torch.cat(alone), results[0]), "rows with other numbers of hidden places"


def test_as_many_are_left_as_the_schedule_says():
    for schedule, wanted in {"cosine": [10, 9, 8, 7, 5, 2], "linear": [10, 8, 6, 5, 3, 1]}.items():
        predict, calls = seen_by(network())
        sampler = ParallelSampler(schedule=schedule)
        decode_parallel(predict, *unknown(), *uniforms(passes=6), sampler)
        assert [set(hidden.sum(1).tolist()) for hidden in calls] == [{n} for n in wanted]


def test_one_pass_draws_every_place_by_itself():
    draws, choices = uniforms(passes=1)
    result = decode_parallel(network(), *unknown(), draws, choices, ParallelSampler())
    scores = network()(*unknown())
    for place in range(PLACES):
        assert torch.equal(result[:, place], draw(scores[:, place], draws[:, 0, place]))


@pytest.mark.parametrize("tau", [0.0, 2.0])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_passes_are_those_of_diffusers(schedule, tau, monkeypatch):
    """Its AmusedScheduler, given our tokens and our Gumbel noise."""
    module = pytest.importorskip("diffusers.schedulers.scheduling_amused")
    passes, rows = 4, 3  # quarters of the places: theirs are rounded down from fp32
    predict, (draws, choices) = network(), uniforms(rows, passes)
    theirs = module.AmusedScheduler(mask_token_id=IDS, masking_schedule=schedule)
    theirs.set_timesteps(passes, (tau * (1 - 1 / passes), 0.0))
    done = []

    def our_tokens(chances, count, generator=None):
        return draw(chances.log(), draws[:, len(done)].flatten())[:, None]

    def our_gumbel(like, generator=None):
        return -(-choices[:, len(done)].log()).log()

    monkeypatch.setattr(module.torch, "multinomial", our_tokens)
    monkeypatch.setattr(module, "gumbel_noise", our_gumbel)
    sample = torch.full((rows, PLACES), IDS)
    for time in theirs.timesteps:
        hidden = sample == IDS
        scores = predict(sample.masked_fill(hidden, 0), hidden)
        sample = theirs.step(scores, time, sample).prev_sample
        done.append(time)
    ours = decode_parallel(
        predict, *unknown(), draws, choices, ParallelSampler(10, schedule, choice_temperature=tau)
    )
    assert torch.equal(ours, sample)


def test_a_block_is_filled_before_the_next_and_eos_ends_it():
    eos, (draws, choices) = 3, uniforms()
    sampler = BlockSampler(block=4, steps=2, temperature=1.0)

    def without_eos(ids, hidden):
        scores = network()(ids, hidden)
        scores[..., eos] = -torch.inf
        return scores

    predict, calls = seen_by(without_eos)
    result = decode_blocks(predict, draws[:, :2], choices[:, :2], eos, sampler)
    assert [hidden.sum(1).tolist() for hidden in calls] == [[n] * 3 for n in (10, 8, 6, 4, 2, 1)]
    assert all(
        hidden[:, start:].all() for hidden, start in zip(calls, (0, 4, 4, 8, 8), strict=False)
    )
    assert (result != eos).all()

    def ends(ids, hidden):
        scores = without_eos(ids, hidden)
        scores[:, 2, eos] = 100.0
        return scores

    predict, calls = seen_by(ends)
    result = decode_blocks(predict, draws[:, :2], choices[:, :2], eos, sampler)
    assert len(calls) == 2, "all rows ended in the first block"
    assert (result[:, 2] == eos).all()
    assert (result[:, 4:] == eos).all(), "nothing was drawn there"


def test_one_block_is_the_parallel_sampler_and_blocks_of_one_go_from_left_to_right():
    predict, (draws, choices) = network(), uniforms()
    settings = BlockSampler(block=PLACES, steps=4, temperature=1.0, choice_temperature=1.0)
    whole = decode_blocks(predict, draws[:, :4], choices[:, :4], -1, settings)
    parallel = ParallelSampler(schedule="linear", choice_temperature=1.0)
    wanted = decode_parallel(predict, *unknown(), draws[:, :4], choices[:, :4], parallel)
    assert torch.equal(whole, wanted)
    settings = BlockSampler(block=1, steps=4, temperature=1.0)
    result = decode_blocks(predict, draws[:, :4], choices[:, :4], -1, settings)
    ids, hidden = unknown()
    for place in range(PLACES):
        ids[:, place] = draw(predict(ids, hidden)[:, place], draws[:, 0, place])
        hidden[:, place] = False
    assert torch.equal(result, ids)


def test_the_noise_of_the_choice_is_gumbel_s_and_finite_at_its_ends():
    middles = (torch.arange(100_000) + 0.5) / 100_000
    numbers = gumbel(middles)
    assert numbers.mean().item() == pytest.approx(0.5772, abs=1e-3)
    assert numbers.var().item() == pytest.approx(math.pi**2 / 6, rel=1e-2)
    assert torch.isfinite(gumbel(torch.tensor([0.0, 1 - 2**-24]))).all()


def test_a_model_that_diverged_still_draws_tokens_that_exist():
    logits = torch.full((2, 7), torch.nan)
    logits[1] = torch.arange(7.0)
    ids = draw(logits, torch.tensor([0.5, 0.999]))
    assert ids[0] in range(7)
    assert ids[1] == draw(logits[1:], torch.tensor([0.999]))[0]
