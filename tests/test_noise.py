"""Keyed noise: what changes a stream, and what must not."""

import subprocess
import sys

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unify.batch import Batch
from unify.noise import Noise, seed_torch, stable_seed


def batch(keys, slots=None, task="text_to_image"):
    made = Batch(task, [], list(keys))
    made.slots = list(slots or range(len(keys)))
    return made


def test_a_row_does_not_depend_on_its_batch_mates():
    whole = Noise.for_batch(0, 5, batch("abcdef")).normal("x0", (3, 2))
    parts = [
        Noise.for_batch(0, 5, batch(k, [i])).normal("x0", (3, 2)) for i, k in enumerate("abcdef")
    ]
    assert torch.equal(whole, torch.cat(parts))


def test_every_part_of_the_key_matters():
    streams = [
        Noise.for_batch(0, 5, batch("a")),
        Noise.for_batch(1, 5, batch("a")),
        Noise.for_batch(0, 6, batch("a")),
        Noise.for_batch(0, 5, batch("b")),
        Noise.for_batch(0, 5, batch("a", [1])),
        Noise.for_batch(0, 5, batch("a", task="edit")),
    ]
    drawn = {tuple(s.uniform("t", (2,)).flatten().tolist()) for s in streams}
    drawn.add(tuple(streams[0].uniform("u", (2,)).flatten().tolist()))
    assert len(drawn) == 7


def test_one_stream_does_not_disturb_another():
    noise = Noise.for_batch(0, 0, batch("ab"))
    before = noise.uniform("t")
    noise.normal("x0", (1000,))
    assert torch.equal(noise.uniform("t"), before)


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = Noise.for_batch(0, 0, batch("ab")).normal("x0", (4,))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(Noise.for_batch(0, 0, batch("ab")).normal("x0", (4,)), first)


def test_the_distributions_are_standard():
    noise = Noise.for_batch(0, 0, batch([str(i) for i in range(50)]))
    normal, uniform = noise.normal("n", (400,)), noise.uniform("u", (400,))
    assert abs(normal.mean()) < 0.03
    assert abs(normal.std() - 1) < 0.03
    assert abs(uniform.mean() - 0.5) < 0.01
    assert uniform.min() >= 0
    assert uniform.max() < 1


def test_generation_is_keyed_by_seed_and_prompt_and_tells_copies_apart():
    three = Noise.for_prompts(0, ["a", "b", "a"]).normal("x0", (2,))
    assert torch.equal(Noise.for_prompts(0, ["b"]).normal("x0", (2,))[0], three[1])
    assert torch.equal(Noise.for_prompts(0, ["a"]).normal("x0", (2,))[0], three[0])
    assert not torch.equal(three[0], three[2])
    by_row = Noise.for_prompts([7, 8], ["a", "a"]).normal("x0", (2,))
    assert torch.equal(Noise.for_prompts([8], [None]).normal("x0", (2,))[0], by_row[1])
    assert not torch.equal(by_row[0], by_row[1])


def keys_that_share_32_bits(number):
    """Pairs of numbers below `number` whose 63-bit seeds differ in the upper half alone."""
    first = {}
    for one in range(number):
        low = stable_seed(0, one) % 2**32
        if low in first:
            yield first[low], one
        first[low] = one


def test_streams_come_from_all_bits_of_a_key():
    """Two rows of one run had one x0 when a generator took 32 bits of a seed."""
    run = "text_to_image"
    rows = [(0, 1428, run, 62, "a"), (0, 1586, run, 18, "b")]
    rows += [(0, step, run, slot, "a") for step in range(400) for slot in range(100)]
    drawn = Noise(rows).normal("image1/x0", (2,))
    assert len(drawn.unique(dim=0)) == len(rows)  # of 24 bits each: 32 alone would repeat some


def test_global_generators_are_seeded_by_all_bits():
    pairs = list(keys_that_share_32_bits(200_000))
    assert pairs
    for one, other in pairs:
        seeds = [stable_seed(0, number) for number in (one, other)]
        assert torch.Generator().manual_seed(seeds[0]).initial_seed() != seeds[1]
        drawn = []
        for seed in (*seeds, seeds[0]):
            with torch.random.fork_rng(devices=[]):
                seed_torch(seed)
                drawn.append(torch.randn(64))
        assert torch.equal(drawn[0], drawn[2])
        assert not torch.isclose(drawn[0], drawn[1]).any()


def test_a_seeded_generator_draws_independent_standard_numbers():
    with torch.random.fork_rng(devices=[]):
        rows = []
        for seed in range(200):
            seed_torch(seed)
            rows.append(torch.randn(500))
    drawn = torch.stack(rows)
    assert abs(drawn.mean()) < 0.015
    assert abs(drawn.std() - 1) < 0.01
    correlations = torch.corrcoef(drawn) - torch.eye(200)
    assert correlations.abs().max() < 6 / 500**0.5


KEYS = st.lists(
    st.none() | st.integers(-(2**70), 2**70) | st.text(max_size=4) | st.floats(allow_nan=False),
    max_size=3,
).map(tuple)


@settings(deadline=None, max_examples=200)
@given(KEYS, KEYS)
@example((None,), ("None",))
@example((1,), ("1",))
@example((1,), (1.0,))
@example(("a", "b"), ("a\x1fb",))
@example(("a", ""), ("a",))
def test_keys_that_differ_have_other_streams(one, other):
    same = [(type(part), part) for part in one] == [(type(part), part) for part in other]
    drawn = Noise([one, other]).normal("x", (4,))
    assert torch.equal(drawn[0], drawn[1]) == (same and repr(one) == repr(other))


def test_a_key_of_numpys_integers_is_that_of_pythons():
    drawn = Noise([(np.int64(3), "a"), (3, "a")]).uniform("t", (4,))
    assert torch.equal(drawn[0], drawn[1])


def test_no_prompt_is_not_the_prompt_none():
    drawn = Noise.for_prompts(0, [None, "None"]).normal("x0", (4,))
    assert not torch.equal(drawn[0], drawn[1])


def test_the_streams_of_a_flow_have_their_names_by_contract_and_are_logged():
    noise = Noise.for_batch(0, 0, batch("ab"))
    x0, t = noise.x0(1, (3, 2)), noise.t(1)
    assert torch.equal(x0, noise.normal("image1/x0", (3, 2)))
    assert torch.equal(t, noise.uniform("image1/t"))
    assert noise.drawn == {"image1/x0": "normal [3, 2]", "image1/t": "uniform"}


def test_seeds_are_the_same_in_another_process():
    code = "from unify.noise import stable_seed; print(stable_seed(0, 'a', 1.5, None))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) == stable_seed(0, "a", 1.5, None)
