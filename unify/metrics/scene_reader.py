"""A second reader of the embedded world: a small network that reads the attributes of each place.

B images of H x W pixels, P = G x G places, D features of a place, K classes.

It knows nothing of the exact checker and its limits: it is trained by gradient on rendered scenes,
whose attributes the world says, as they look clean, under noise, blurred, or given back by image
tokenizers. So where the two readers agree, a result does not hang on either. It has no way to
refuse: of a picture of nothing it says something.

    attributes   mean over places of CE(what stands there) + CE(colour) + CE(size), the latter two
                 only where something stands

Its features, D numbers of every place, are also those of a Frechet distance: by them pictures
differ as far as their attributes do, and as far as they look unlike any.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, MultipleOf
from torch import Tensor, nn

from unify.batch import Batch
from unify.data.shapes import Shapes
from unify.data.source import to_tensor
from unify.data.world.scene import Scene, Thing
from unify.metrics.picture_encoder import CHUNK, PictureEncoder
from unify.metrics.reconstruction import reconstruct
from unify.noise import Noise
from unify.paradigm import Term, Terms, Trainable
from unify.support.ranges import Count, NotNegative
from unify.tokenizer import ImageTokenizer, inference

GROUPS = 4  # of a GroupNorm; widths are multiples of it
NOTHING = -1  # the label of an attribute where nothing stands, which is not learned

Logits = dict[str, Tensor]  # [B K P] by attribute


class SceneReader(PictureEncoder, Trainable):
    """Reads pictures of one world.

    Args:
        world: that of the data that it is trained on; what its places may hold.
        through: trained image tokenizers whose copies it also learns from. It reads without them:
            a metric may leave the list empty.
        width: channels of the first layers, and half of those of the later ones.
        features: D, numbers by which a place is known.
        noise: largest standard deviation of the white noise, images spanning [-1, 1].
        blur: largest standard deviation of the Gaussian blur, in pixels.

    ValueError for a world whose pictures do not divide into squares of 4 pixels.
    """

    tasks = frozenset({"image"})
    terms = frozenset({"attributes"})

    def __init__(
        self,
        world: Shapes,
        through: Sequence[ImageTokenizer] = (),
        width: Annotated[int, Ge(GROUPS), MultipleOf(GROUPS)] = 24,
        features: Count = 16,
        noise: NotNegative = 0.5,
        blur: NotNegative = 2.0,
    ):
        super().__init__()
        board = world.board
        if board.pixels % 4:
            raise ValueError(f"a reader takes a multiple of 4 pixels, not {board.pixels}")
        self.world, self.noise, self.blur = world, noise, blur
        # in a tuple, so no sub-modules: they stay out of checkpoints and exports
        self.through = tuple(part.requires_grad_(False).eval() for part in through)
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2),  # [B 3 H W] -> [B 12 H/2 W/2]
            nn.Conv2d(12, width, 3, padding=1),
            _Residual(width),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),  # -> [B 2w H/4 W/4]
            _Residual(2 * width),
            nn.GroupNorm(GROUPS, 2 * width),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(board.grid),  # -> [B 2w G G]
            nn.Conv2d(2 * width, features, 1),
        )
        kinds = {"shape": 1 + len(board.shapes), "color": len(board.colors)}
        kinds |= {"size": len(board.sizes)} if len(board.sizes) > 1 else {}
        self.heads = nn.ModuleDict({name: nn.Conv2d(features, n, 1) for name, n in kinds.items()})

    def settings(self) -> dict[str, Any]:
        board = self.world.board
        return {"pixels": board.pixels, "grid": board.grid, "names": self._names()}

    def check_world(self, world: Shapes) -> None:
        """ValueError for a world with other places or names than it was trained on."""
        own, other = self.world.board, world.board
        for name in ("pixels", "grid", "shapes", "colors", "sizes"):
            mine, theirs = getattr(own, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(
                    f"the reader was trained on a world of {name} {mine}, and this one has {theirs}"
                    ": give it one that is trained on this world"
                )

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        images = batch.segments[-1].images
        labels = self._labels(batch)  # [B P] by attribute
        logits = self._logits(self._places(self._damaged(images, noise)))
        each = [
            F.cross_entropy(logits[name].float(), wanted, ignore_index=NOTHING, reduction="none")
            for name, wanted in labels.items()
        ]
        return {"attributes": Term(torch.stack(each).sum(0).mean(1))}

    def embed(self, images: Tensor) -> Tensor:
        side = self.world.board.pixels
        if images.shape[1:] != (3, side, side):
            raise ValueError(f"images must be [B 3 {side} {side}], not {tuple(images.shape)}")
        return self._places(images).flatten(1)  # [B D*P]

    @inference
    def scenes(self, images: Tensor) -> list[Scene]:
        """[B 3 H W] in [-1, 1] -> B scenes, of the most likely content of every place."""
        read: list[Scene] = []
        for part in images.float().clamp(-1, 1).split(CHUNK):
            logits = self._logits(self._places(part.to(self.device)))
            best = {name: values.argmax(1).tolist() for name, values in logits.items()}  # [B][P]
            for row in range(len(part)):
                read.append(self._scene({name: rows[row] for name, rows in best.items()}))
        return read

    def _scene(self, best: dict[str, list[int]]) -> Scene:
        board, things = self.world.board, []
        for place, cell in enumerate(board.cells):
            if (shape := best["shape"][place]) > 0:
                size = board.sizes[best["size"][place] if "size" in best else 0]
                color = board.colors[best["color"][place]]
                things.append(Thing(cell, board.shapes[shape - 1], color, size))
        return Scene(tuple(things))

    def _places(self, images: Tensor) -> Tensor:
        """[B 3 H W] -> features [B D G G]."""
        return self.body(images)

    def _logits(self, places: Tensor) -> Logits:
        return {name: head(places).flatten(2) for name, head in self.heads.items()}

    def _names(self) -> dict[str, tuple[str, ...]]:
        board = self.world.board
        return {"shape": ("", *board.shapes), "color": board.colors, "size": board.sizes}

    def _labels(self, batch: Batch) -> dict[str, Tensor]:
        """What stands at each place of the batch's pictures, by attribute, [B P].

        The world says it, of the record that a row's key names; of one row it is compared with the
        picture. ValueError for pictures of another world.
        """
        scenes = [self._scene_of(key) for key in batch.keys]
        shown = to_tensor(self.world.render(scenes[0])).to(batch.segments[-1].images)
        if not torch.equal(shown, batch.segments[-1].images[0]):
            raise ValueError(
                f"{batch.keys[0]} is no picture of the reader's world: say `world: "
                "${data.source}`"
            )
        labels = {
            name: torch.tensor([self._indices(s, name) for s in scenes]) for name in self.heads
        }
        return {name: indices.to(shown.device) for name, indices in labels.items()}

    def _indices(self, scene: Scene, attribute: str) -> list[int]:
        """An attribute of what stands at each place, [P], as an index of its names."""
        names, at = self._names()[attribute], {thing.cell: thing for thing in scene.things}
        things = [at.get(cell) for cell in self.world.board.cells]
        nothing = 0 if attribute == "shape" else NOTHING
        return [nothing if t is None else names.index(getattr(t, attribute)) for t in things]

    def _scene_of(self, key: str) -> Scene:
        task, split, index = key.split("/")
        if task != "image" or split not in ("train", "validation", "test", "heldout"):
            raise ValueError(f"a reader learns from the world's task `image`, not from {key}")
        return self.world.pictured(split, int(index))  # type: ignore[arg-type]

    # What it has to read through

    def _damaged(self, images: Tensor, noise: Noise) -> Tensor:
        """Each row clean or damaged in one way, all as likely; [B 3 H W]."""
        kind, level = noise.uniform("kind"), noise.uniform("level")
        white = noise.normal("white", images.shape[1:])
        ways: list[Callable[[Tensor, Tensor], Tensor]] = [
            lambda x, rows: x,
            lambda x, rows: x + self.noise * level[rows, None, None, None] * white[rows],
            lambda x, rows: blurred(x, self.blur * level[rows], self.blur),
            *(partial(_copied, tokenizer) for tokenizer in self.through),
        ]
        chosen = (kind * len(ways)).long()
        damaged = images.clone()
        for number, way in enumerate(ways):
            rows = (chosen == number).nonzero()[:, 0]
            if len(rows):
                damaged[rows] = way(images[rows], rows)
        return damaged.clamp(-1, 1)


class _Residual(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))), all of one width."""

    def __init__(self, width: int):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.GroupNorm(GROUPS, width), nn.SiLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _copied(tokenizer: ImageTokenizer, images: Tensor, rows: Tensor) -> Tensor:
    return round_trip(tokenizer, images)


def round_trip(tokenizer: ImageTokenizer, images: Tensor) -> Tensor:
    """Images [B 3 H W] as a tokenizer gives them back, on their device."""
    copies, _ = reconstruct(tokenizer.to(images.device), images, len(images))
    return copies.float().to(images.device)


def blurred(images: Tensor, sigma: Tensor, most: float) -> Tensor:
    """Gaussian blur of [B 3 H W] by a standard deviation each, [B] in pixels, at most `most`."""
    reach = min(int(3 * most) + 1, images.shape[-1] - 1)
    at = torch.arange(-reach, reach + 1, device=images.device, dtype=torch.float32)
    kernel = (-0.5 * (at / sigma[:, None].clamp_min(1e-3)).square()).exp()  # [B K]
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)  # [3B K]
    rows = images.flatten(0, 1)[None].float()  # [1 3B H W]
    down, right = kernel[:, None, :, None], kernel[:, None, None]  # [3B 1 K 1], [3B 1 1 K]
    for weight, pad in ((down, (0, 0, reach, reach)), (right, (reach, reach, 0, 0))):
        rows = F.conv2d(F.pad(rows, pad, mode="reflect"), weight, groups=rows.shape[1])
    return rows.view_as(images).to(images.dtype)
