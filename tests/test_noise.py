"""Keyed noise: what changes a stream, and what must not."""

import subprocess
import sys

import torch

from unify.batch import Batch
from unify.noise import Noise, stable_seed


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


def test_seeds_are_the_same_in_another_process():
    code = "from unify.noise import stable_seed; print(stable_seed(0, 'a', 1.5, None))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) == stable_seed(0, "a", 1.5, None)
