"""Variety of what prompts of the embedded world leave open."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from unify.data.shapes import Shapes
from unify.data.world.checker import Unreadable
from unify.data.world.language import Prompt
from unify.data.world.scene import Pattern, Scene
from unify.metrics.metric import Score


def variety(
    world: Shapes, prompts: Sequence[Prompt], read: Sequence[Scene | Unreadable], stamp: dict
) -> list[Score]:
    """Normalised entropy of each attribute that `single_object` prompts leave open.

    Taken for each prompt text over its right images and averaged by their number, so that always
    drawing red circles and blue squares counts as no variety. With m options, v of them seen in N
    images, the entropy is corrected for small N by (v - 1) / 2N (Miller and Madow) and divided by
    log m; 1 says that all options that training has are equally frequent. Without a right image it
    is undefined, and its value None.
    """
    scenes_of: defaultdict[str, list[Scene]] = defaultdict(list)
    for prompt, scene in zip(prompts, read, strict=True):
        if isinstance(scene, Scene) and prompt.satisfied(scene):
            scenes_of[prompt.text].append(scene)
    shape = {prompt.text: prompt.spec.patterns[0].shape for prompt in prompts}
    scores = []
    for attribute in prompts[0].left_open():
        name = "cell" if attribute == "place" else attribute
        total, n = 0.0, 0
        for text, scenes in scenes_of.items():
            m = _options(world, name, Pattern(shape=shape[text]))
            if m > 1:
                values = Counter(getattr(scene.things[0], name) for scene in scenes)
                total += len(scenes) * _entropy(values) / math.log(m)
                n += len(scenes)
        metric, value = f"text_to_image/variety/{attribute}", min(1.0, total / n) if n else None
        scores.append(Score(metric, value, n, passport=stamp, better="higher", unit="images"))
    return scores


def _options(world: Shapes, attribute: str, pattern: Pattern) -> int:
    """Number of values that training has for an attribute of the thing asked for."""
    board = world.board
    if attribute == "color":
        return sum(shape == pattern.shape for _, shape in board.pairs)
    return len(board.sizes) if attribute == "size" else len(board.cells)


def _entropy(counts: Counter) -> float:
    n = sum(counts.values())
    plain = -sum(k / n * math.log(k / n) for k in counts.values())
    return plain + (len(counts) - 1) / (2 * n)
