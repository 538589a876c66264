"""Two towers in one sequence: a language model, and a copy of it that reads and draws images
(LMFusion arXiv:2412.15188, Mixture-of-Transformers arXiv:2411.04996, BAGEL arXiv:2505.14683).

    L = CE(text) + lambda |v(x_t, t) - (x_1 - x_0)|^2        as Transfusion

    row = bos prompt eos boi | patches | eoi          text tower | image tower | text tower

Patches of latents, noised or clean, go through the image tower and all else through the text tower;
one attention reads both (unify/nn/towers.py). An image that is read is clean latents, or with
`understand="vision"` (BAGEL) also what the language model's own encoder sees, for the text tower:
before text it is that alone, before another image it is the latents and then that. BAGEL has boi
and eoi inside the bidirectional block, and one position for all patches (docs/definitions.md).
B rows, P patches, D width.
"""

from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from unify.batch import Batch, Segment
from unify.nn.frozen import freeze
from unify.nn.layers import Embedding
from unify.nn.provenance import inherit_source, mark_loaded, provenance
from unify.nn.sequence import TokenSequence
from unify.nn.towers import DualTrunk, Separation, TextTower
from unify.nn.trunk import Trunk
from unify.nn.vision import VisionEncoder
from unify.nn.words import Table
from unify.paradigms.transfusion import Transfusion
from unify.paradigms.vlm import VLM
from unify.tokenizer import TextTokenizer

Understand = Literal["latents", "vision"]


class _Copies(NamedTuple):
    """The forms in which an image column enters a row."""

    column: Segment
    latents: int  # number of copies as latents
    features: int  # tokens of its features; 0 if they are not read


class DualTower(Transfusion):
    """Transfusion in two towers; `settings` are those of `Transfusion`.

    The text side is that of an `llm` (trunk, embedding, head, encoder), or starts from nothing with
    a `trunk` and a `text` tokenizer; the image tower starts as a copy of its trunk. A trained text
    side learns at the share `optimizer.lr_ratio` of `trunk.text`, `embed` and `to_text`.

    Args:
        separation, text_tower: as in `DualTrunk`. "frozen" and "detached" hold for every part of
            the llm that has weights; a projection of image features that has none learns beside a
            frozen text tower.
        understand: what is read of an image, its latents or the features of the llm's encoder.
        settings: those of `Transfusion`.
    """

    trunk: DualTrunk

    def __init__(
        self,
        trunk: Trunk | None = None,
        text: TextTokenizer | None = None,
        llm: VLM | None = None,
        separation: Separation = "full",
        text_tower: TextTower = "trained",
        understand: Understand = "latents",
        **settings: Any,
    ):
        trunk, text = _text_side(trunk, text, llm)
        super().__init__(trunk=DualTrunk(trunk, separation, text_tower), text=text, **settings)
        self._check(llm, understand)
        self.vision: VisionEncoder | None = None
        self.delimiters: Embedding | None = None
        if llm is not None:
            self._adopt(llm, understand)
        if text_tower == "frozen":
            # Boi and eoi of latents are text tokens, and a frozen table cannot learn them: they get
            # one of their own. Beside a detached text tower no gradient would reach it.
            self.delimiters = Embedding(2, trunk.dim)

    def _check(self, llm: VLM | None, understand: Understand) -> None:
        if llm is None and self.trunk.text_tower != "trained":
            raise ValueError(
                f"dual_tower: text_tower {self.trunk.text_tower} keeps what a language model has "
                "learned; give it as llm"
            )
        blind = llm is None or not llm.sees
        if understand == "vision" and (blind or self.condition_on == "noised"):
            raise ValueError(
                "dual_tower: understand vision is by the encoder of an llm, beside clean latents; "
                "give an llm that has one and set condition_on to clean_copy"
            )

    def _adopt(self, llm: VLM, understand: Understand) -> None:
        """Take over the language model's parts, with the provenance of their weights."""
        self.embed, self.to_text = llm.embed, llm.to_text
        parts: list[nn.Module] = [llm.embed, llm.to_text]
        loaded = provenance(llm)
        if understand == "vision":
            self.vision, self.project = llm.eyes()
            eyes = llm.eyes()
            parts += [eye for eye in eyes if loaded.pretrained or provenance(eye).pretrained]
            if self.trunk.text_tower == "detached" and self.project not in parts:
                raise ValueError(
                    "dual_tower: the llm's projection of image features has no weights yet, and no "
                    "gradient comes to it through a detached text tower; set text_tower to frozen, "
                    "or give an llm that has learned to read images"
                )
        if self.trunk.text_tower != "trained":
            parts = [freeze(part) for part in parts]
        if loaded.pretrained:
            for part in (self.trunk, *parts):
                mark_loaded(part)
        for part in (self.trunk.text, *parts):
            inherit_source(part, loaded)

    def add_image(
        self, sequence: TokenSequence, images: Tensor, present: Tensor | None = None
    ) -> None:
        super().add_image(sequence, images, present)
        if self.vision is not None:
            self.add_seen(sequence, images, present)

    def add_seen(
        self, sequence: TokenSequence, images: Tensor, present: Tensor | None = None
    ) -> None:
        if self.vision is None:
            return self.add_image(sequence, images, present)
        features = self.project(self.vision(images))  # [B P D]
        grid = self.vision.grid(*images.shape[-2:])
        self.add_framed(sequence, features, self.embed, present, grid=grid)

    @property
    def ends(self) -> Table:
        return self.embed if self.delimiters is None else self.delimiters

    def tokens(self, batch: Batch) -> int:
        row = sum(column.length for column in batch.segments if column.kind == "text")
        for column, latents, features in self._copies(batch):
            row += latents * self.latent_tokens(column) + (features + 2 if features else 0)
        return len(batch) * row

    def flops(self, batch: Batch) -> float:
        """FLOPs of Transfusion and of the encoder, less what an untrained text side saves."""
        copies, row = self._copies(batch), self.tokens(batch) // len(batch)
        image = sum(latents * (self.latent_tokens(column) - 2) for column, latents, _ in copies)
        saved = self.trunk.spared(row - image, image) + self.trunk.saved * self.head_flops(batch)
        vision = sum(self._vision_flops(column, features) for column, _, features in copies)
        return super().flops(batch) + len(batch) * (vision - saved)

    def latent_copies(self, batch: Batch) -> list[tuple[Segment, int, bool]]:
        pairs = zip(super().latent_copies(batch), self._copies(batch), strict=True)
        return [(column, own.latents, noised) for (column, _, noised), own in pairs if own.latents]

    def _copies(self, batch: Batch) -> list[_Copies]:
        copies, last = [], batch.segments[-1]
        for column in batch.segments:
            if column.kind == "image":
                # an image before text is understood (features); one before an image is drawn from,
                # which needs its latents: features have lost the pixels
                given, read, features = column.role == "condition", column is not last, 0
                if self.vision is not None and read:
                    h, w = self.vision.grid(*column.images.shape[-2:])
                    features = h * w
                twice = read and not given and self.condition_on == "clean_copy"
                alone = features > 0 and given and last.kind == "text"
                copies.append(_Copies(column, 0 if alone else 1 + twice, features))
        return copies

    def _vision_flops(self, column: Segment, features: int) -> float:
        """FLOPs of the encoder over one image: forward, and backward to the parts that train."""
        if self.vision is None or not features:
            return 0.0
        # backward: once for the weights of a part that trains, once more for those before it
        learns = any(parameter.requires_grad for parameter in self.vision.parameters())
        passes = 1 + self.project.weight.requires_grad + learns
        projected = 2.0 * self.project.weight.numel() * features * passes
        h, w = column.images.shape[-2:]
        return (self.vision.training_flops if learns else self.vision.flops)(h, w) + projected


def _text_side(
    trunk: Trunk | None, text: TextTokenizer | None, llm: VLM | None
) -> tuple[Trunk, TextTokenizer]:
    """The trunk that becomes the text tower, and its tokenizer."""
    if llm is None and trunk is not None and text is not None:
        return trunk, text
    if llm is None or trunk is not None or text is not None:
        raise ValueError("dual_tower: give an llm, or else a trunk and a text tokenizer")
    if not isinstance(llm.trunk, Trunk):
        raise ValueError(
            f"dual_tower: the llm's trunk is a {type(llm.trunk).__name__}, whose layers cannot be "
            "told apart; use a Trunk (LlamaVLM has one with weights of Llama or Qwen type)"
        )
    return llm.trunk, llm.text
