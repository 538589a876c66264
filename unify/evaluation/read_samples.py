"""What the checker reads in pictures that were drawn for prompts of the embedded world.

B images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from unify.data.shapes import Shapes
from unify.data.world.checker import Checker
from unify.data.world.reading import Nearest

REFUSED = {"far": "nothing of this world", "flawed": "something with a flaw"}


@dataclass(frozen=True)
class ReadSample:
    """A prompt and the nearest reading of its picture, in the words of the world's captions.

    `right`: whether that is what was asked for; None for a prompt that is no full caption.
    """

    asked: str
    read: str
    right: bool | None

    @property
    def title(self) -> str:
        """For below the picture."""
        return f"{self.asked}, read as asked" if self.right else f"{self.asked}; read: {self.read}"


def read_samples(world: Shapes, prompts: Sequence[str], images: Tensor) -> list[ReadSample]:
    """The readings of images [B 3 H W] in [-1, 1], drawn for B prompts."""
    readings = zip(prompts, Checker(world).nearest(images), strict=True)
    return [_read(world, prompt, near) for prompt, near in readings]


def _read(world: Shapes, prompt: str, near: Nearest) -> ReadSample:
    asked = world.parse(prompt)
    text = world.caption(near.scene) if len(near.scene) else "an empty picture"
    read = REFUSED[near.refused] if near.refused is not None else text
    right = None if asked is None else near.refused is None and near.scene == asked
    return ReadSample(prompt, read, right)


def some_prompts(world: Shapes, count: int) -> list[str]:
    """The first distinct full captions of the world's test prompts, `count` at most."""
    texts = [prompt.text for prompt in world.prompts("full", 8 * count, seed=0)]
    return list(dict.fromkeys(texts))[:count]
