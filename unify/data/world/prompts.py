"""Prompts to evaluate by: full captions, and those that leave something open."""

import random
from collections.abc import Sequence

from unify.data.source import Split
from unify.data.world.language import (
    CATEGORIES,
    Prompt,
    Spec,
    describe,
    full,
    full_category,
    possible,
    wish,
)
from unify.data.world.scene import Scene
from unify.data.world.scenes import TRIES, Draw, Scenes


class Prompts(Scenes):
    """The prompts of a world: each depends on its stream, category, split and index alone."""

    def caption(self, scene: Scene) -> str:
        """The full caption, from which `parse` reads the scene back."""
        return describe(self.board, [full(thing) for thing in scene.things])

    @property
    def categories(self) -> list[str]:
        """Categories of `prompts`: full captions by object count, and GenEval's where possible."""
        return [*self.complete, *possible(self.board)]

    @property
    def complete(self) -> dict[str, int]:
        """The object counts of full captions by category: `one_object`, `two_objects` ..."""
        low, high = self.board.objects
        return {full_category(n): n for n in range(low, high + 1)}

    def prompts(self, category: str, n: int, seed: int, split: Split = "test") -> list[Prompt]:
        """`n` prompts with their scenes, the first of an endless stream.

        Args:
            category: one of `categories`, or `full`: full captions of any object count.
            seed, split: which stream.

        In a world with held-out keys no full caption comes twice, and there are
        `distinct_prompts` of them at most: ValueError for more.
        """
        if category not in (names := ["full", *self.categories]):
            raise ValueError(f"this world has no prompts {category!r}; it has {names}")
        draws = [self._draw("prompts", split, category, seed, i) for i in range(n)]
        if category in CATEGORIES:
            return [self._open_prompt(category, split, draw) for draw in draws]
        if self.keys:
            order = self._rng("prompts", split, category, seed, "order")
            return self._distinct(category, split, draws, order)
        return [self._full_prompt(category, split, draw) for draw in draws]

    def distinct_prompts(self, category: str, split: Split = "test") -> int | None:
        """The most prompts of a category that `prompts` gives; None: as many as one likes.

        They are limited in a world with held-out keys alone, those of full captions, by the scenes
        of the split. None, too, where these are too many to list.
        """
        if not self.keys or category in CATEGORIES:
            return None
        scenes = [self.keys.listed(count, split) for count in self._counts(category)]
        return None if None in scenes else sum(len(some or ()) for some in scenes)

    def _counts(self, category: str) -> list[int]:
        """The object counts of a category of full captions."""
        everything = list(self.complete.values())
        return everything if category == "full" else [self.complete[category]]

    def _distinct(
        self, category: str, split: Split, draws: Sequence[Draw], order: random.Random
    ) -> list[Prompt]:
        """A prompt for each draw, none twice: its object count first, and then a scene of it."""
        left: dict[int, list[Scene] | None] = {}
        for count in self._counts(category):
            listed = self.keys.listed(count, split)
            left[count] = None if listed is None else order.sample(listed, len(listed))
        prompts: dict[str, Prompt] = {}
        for draw in draws:
            counts = [count for count, scenes in left.items() if scenes is None or scenes]
            if not counts:
                raise ValueError(
                    f"{len(draws)} prompts {category!r}: the {split} split of this world has "
                    f"{len(prompts)} distinct ones; ask for fewer"
                )
            count = draw.rng.choice(counts)
            if (scenes := left[count]) is not None:
                prompt = self._prompt_of(self._dressed(scenes.pop(), draw))
            else:
                tries = (self._full_prompt(full_category(count), split, draw) for _ in range(TRIES))
                found = next((one for one in tries if one.text not in prompts), None)
                if found is None:
                    raise ValueError(
                        f"{len(draws)} prompts {category!r}: after {len(prompts)} of them no other "
                        f"was found in the {split} split of this world; ask for fewer"
                    )
                prompt = found
            prompts[prompt.text] = prompt
        return list(prompts.values())

    def _full_prompt(self, category: str, split: Split, draw: Draw) -> Prompt:
        scene = self._drawn(split, draw.rng, count=self.complete.get(category))
        if scene is None:
            raise ValueError(f"no {split} scene of this world has a prompt {category!r}")
        return self._prompt_of(self._dressed(scene, draw))

    def _prompt_of(self, scene: Scene) -> Prompt:
        spec = Spec(tuple(full(thing) for thing in scene.things))
        return Prompt(self.caption(scene), spec, scene)

    def _open_prompt(self, category: str, split: Split, draw: Draw) -> Prompt:
        pins, read = wish(self.board, category, draw.rng), CATEGORIES[category]
        prompt = self._find(
            split, draw, pins, len(pins), lambda scene: read(self.board, scene, draw.rng)
        )
        if prompt is None:
            raise ValueError(f"no {split} scene of this world has a prompt {category!r}")
        return prompt
