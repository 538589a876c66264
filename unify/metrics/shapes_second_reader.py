"""What a second reader says of the pictures that `TextToImage` scores.

    text_to_image/second_reader          full captions: the network reads the scene that was asked
    text_to_image/second_reader/<n>      by object count; /heldout: of held-out pairs
    text_to_image/readers_agree          share of all of these of which it and the checker's nearest
                                         reading (whose refusals are wrong) say the same: that it is
                                         the scene, or that it is not
    <each>/ceiling                       of the true images, given back by the model's tokenizer

The network (scene_reader.py) is trained apart from the exact checker, has no margin and refuses
nothing. An order of arms that one of the two readers sees and the other does not hangs on the
reader. The pictures are those that `TextToImage` drew, where it has asked for the same prompts in
this evaluation.

B images of H x W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from unify.data.source import Split
from unify.data.world.checker import Checker
from unify.data.world.language import Prompt
from unify.metrics.ceiling import ceiling, given_back
from unify.metrics.metric import Better, Grid, Score, Subject, proportion
from unify.metrics.scene_reader import SceneReader
from unify.metrics.shapes_drawing import ShapesMetric, picture
from unify.metrics.shapes_prompts import full_prompts, pictures_of
from unify.support.ranges import Count, CountOrZero


@dataclass
class TwiceRead:
    """Prompts with images of them, and which are right: by the network, and by the checker."""

    prompts: list[Prompt]
    images: Tensor
    right: list[bool]
    by_checker: list[bool]

    @property
    def texts(self) -> list[str]:
        return [prompt.text for prompt in self.prompts]

    @property
    def agree(self) -> list[bool]:
        """On which images the two say the same."""
        return [a == b for a, b in zip(self.right, self.by_checker, strict=True)]


def differing(read: Sequence[TwiceRead]) -> list[Grid]:
    """A grid of the first pictures on which the two differ, with the network's verdict; or none."""
    rows = [(part, row) for part in read for row, same in enumerate(part.agree) if not same]
    if not rows:
        return []
    shown = torch.stack([part.images[row] for part, row in rows])
    texts, verdicts = zip(*((p.texts[row], p.right[row]) for p, row in rows), strict=True)
    return [picture("text_to_image/readers_differ", shown, texts, verdicts)]


class SecondReader(ShapesMetric):
    """Verdicts of `reader` on `prompts` full captions and `heldout` ones of held-out pairs, and how
    often the checker agrees. `reader` names the run that trained it, by `weights`."""

    tasks: ClassVar[frozenset[str]] = frozenset({"text_to_image"})
    measures = ("text_to_image/second_reader*", "text_to_image/readers_agree")

    def __init__(
        self,
        reader: SceneReader,
        prompts: Count = 256,
        heldout: CountOrZero = 128,
        split: Split = "test",
        sealed: str | None = None,
    ):
        self.reader, self.prompts, self.heldout = reader.eval(), prompts, heldout
        self.split, self.sealed = split, sealed

    def check(self, subject: Subject) -> None:
        """ValueError, too, for a reader that was trained on a world of other places or names."""
        super().check(subject)
        self.reader.check_world(self.world(subject))

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = self.world(subject)
        self.reader.check_world(world)
        judge = partial(self._judged, Checker(world))
        drawn: dict[str, TwiceRead] = {}
        best: dict[str, TwiceRead] = {}  # the true images of the same prompts, given back
        for name, asked in full_prompts(world, self.prompts, self.heldout, self.split).items():
            prompts, pictures, truth = pictures_of(subject, world, asked)
            drawn[name] = judge(prompts, pictures)
            best[name] = judge(prompts, given_back(subject, truth))
        scores = self._scores(subject, drawn)
        ceilings = [ceiling(subject, score) for score in self._scores(subject, best)]
        return [*scores, *ceilings], differing(list(drawn.values()))

    def _judged(self, checker: Checker, prompts: list[Prompt], images: Tensor) -> TwiceRead:
        """Images [B 3 H W] of B prompts, by both readers."""
        by_network = zip(prompts, self.reader.scenes(images), strict=True)
        by_checker = zip(prompts, (n.at_margin(0) for n in checker.nearest(images)), strict=True)
        return TwiceRead(
            prompts,
            images,
            [prompt.satisfied(scene) for prompt, scene in by_network],
            [scene is not None and prompt.satisfied(scene) for prompt, scene in by_checker],
        )

    def _scores(self, subject: Subject, read: dict[str, TwiceRead]) -> list[Score]:
        full = [d for name, d in read.items() if name != "heldout"]

        def share(name: str, parts: list[TwiceRead], what: str, better: Better | None) -> Score:
            texts = [text for part in parts for text in part.texts]
            hits = [hit for part in parts for hit in getattr(part, what)]
            stamp = self.passport(subject, texts, subject.image_sampling)
            stamp["reader"] = f"{type(self.reader).__name__} {self.reader.content_hash()}"
            of: dict[str, Any] = {"better": better, "unit": "prompts", "prompts": texts}
            return proportion(f"text_to_image/{name}", hits, stamp, **of)

        scores = [share("second_reader", full, "right", "higher")]
        scores += [share(f"second_reader/{n}", [d], "right", "higher") for n, d in read.items()]
        return [*scores, share("readers_agree", full, "agree", None)]
