"""Keyed noise: every random number of a step is a function of what it is for, not of who draws it.

A row's stream is keyed by hash(seed, step, task, slot in the global batch, sample key, name) and
drawn on the CPU, so rank, worker, micro-batch and batch mates change nothing, no generator state
is ever saved, and two arms of a study see the same noise. Changing one named stream changes no
other. Numbers are those of numpy's Philox (a counter-based generator, Salmon et al. 2011,
doi:10.1145/2063384.2063405), which takes 128 bits of the key. Measured on one CPU core: 0.8 ms for
64 rows of (4, 8, 8).

The streams of a flow have names by contract, `image<p>/x0` and `image<p>/t` for the segment at
place p of the batch (`Noise.x0`, `Noise.t`): flows of any paradigm to one target see one noise.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts; the same in every process and on every machine.

    Parts are told apart by their text: 1 and "1" give one seed.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seed_torch(seed: int) -> None:
    """Seed torch's global generators by all bits of a seed, on the CPU too.

    `torch.manual_seed` takes 32 bits there: of 100,000 seeds, two would begin one stream.
    """
    torch.manual_seed(seed % 2**63)
    words = np.random.MT19937(np.random.SeedSequence(seed)).state["state"]["key"]  # [624] uint32
    state = torch.default_generator.get_state()  # its own Mersenne Twister, not yet drawn from
    written = torch.from_numpy(words.astype("<u8").view(np.uint8))
    state[_BEFORE_WORDS : _BEFORE_WORDS + len(written)] = written
    torch.default_generator.set_state(state)


_BEFORE_WORDS = 24  # bytes of a CPU generator's state before the 624 words of its twister


class Noise:
    """Named random streams for the B rows of a batch.

    `rows` are the keys of the rows, tuples of texts, numbers and None (which is not "None");
    numbers come on `device`. `drawn` has what was drawn so far: name -> "normal [4, 8, 8]".
    """

    def __init__(self, rows: Sequence[tuple[object, ...]], device: torch.device | str = "cpu"):
        self.rows, self.device = list(rows), device
        self.drawn: dict[str, str] = {}

    @classmethod
    def for_batch(cls, seed: int, step: int, batch, device: torch.device | str = "cpu") -> Noise:
        """Noise of one training step for a `Batch` (whose slots count within the global batch)."""
        slots = zip(batch.slots, batch.keys, strict=True)
        return cls([(seed, step, batch.task, slot, key) for slot, key in slots], device)

    @classmethod
    def for_prompts(
        cls,
        seed: int | Sequence[int],
        prompts: Sequence[object],
        device: torch.device | str = "cpu",
    ) -> Noise:
        """Noise to generate with; batch mates change nothing.

        A row is keyed by its own seed where there is one for each. With one seed for all it is
        keyed by its prompt too, and the n-th row of equal prompts gets that prompt's n-th stream.
        """
        if not isinstance(seed, int):
            if len(seed) != len(prompts):
                raise ValueError(f"{len(seed)} seeds for {len(prompts)} rows; give one for each")
            return cls([("generate", one) for one in seed], device)
        seen: Counter[object] = Counter()
        rows = []
        for prompt in prompts:
            rows.append(("generate", seed, prompt, seen[prompt]))
            seen[prompt] += 1
        return cls(rows, device)

    def x0(self, place: int, shape: Sequence[int]) -> Tensor:
        """Normal numbers [B *shape]: where a flow to the segment at a place starts."""
        return self.normal(f"image{place}/x0", shape)

    def t(self, place: int, shape: Sequence[int] = ()) -> Tensor:
        """Uniform numbers [B *shape] that a flow to the segment at a place makes its times of."""
        return self.uniform(f"image{place}/t", shape)

    def normal(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Standard normal numbers [B *shape], fp32."""
        return self._draw("normal", name, shape)

    def uniform(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Uniform numbers in [0, 1) [B *shape], fp32."""
        return self._draw("uniform", name, shape)

    def _draw(self, law: str, name: str, shape: Sequence[int]) -> Tensor:
        self.drawn[name] = f"{law} {list(shape)}" if len(shape) else law
        numbers = np.empty((len(self.rows), *shape), np.float32)
        # on the CPU, since generators of devices give other numbers from the same seed
        philox = np.random.Philox()
        state: Any = {**philox.state, "state": {"counter": np.zeros(4, np.uint64)}}
        generator = np.random.Generator(philox)
        draw = generator.standard_normal if law == "normal" else generator.random
        for row, key in enumerate(self.rows):
            # a fresh state is several times faster than a generator for every row
            state["state"]["key"] = _philox_key([*key, name])
            philox.state = state
            draw(dtype=np.float32, out=numbers[row : row + 1])
        return torch.from_numpy(numbers).to(self.device)


def _philox_key(parts: Sequence[object]) -> np.ndarray:
    """128 bits [2] of a key; as JSON, parts of unlike types differ, and no text joins two."""
    text = json.dumps(parts, default=index)
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=16).digest(), "<u8")
