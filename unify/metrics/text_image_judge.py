"""Judges that put pictures and texts into one space, where a picture lies near its own text.

    DualEncoder    two small encoders, trained here on pictures and their texts by CLIP's contrast
    CLIPFolder     a CLIP of transformers' format, from a local folder

Where no checker knows the truth, a metric compares drawn pictures with what was asked by one of
them. No judge is neutral: its hash stands in every score's passport, and what it says of real
pictures is measured beside. B images of H x W pixels, N texts, D features.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unify.batch import TEXT_LENGTH, Batch, Text
from unify.metrics.picture_encoder import CHUNK, PictureEncoder
from unify.nn.latent_flow import same_group, twins
from unify.nn.layers import Embedding, Linear
from unify.nn.masks import Mask
from unify.nn.text_latent import Contrast
from unify.nn.trunk import Tokens, Trunk
from unify.nn.vision import VisionEncoder
from unify.noise import Noise
from unify.paradigm import Term, Terms, Trainable
from unify.support.ranges import Count
from unify.tokenizer import TextTokenizer, inference


class TextImageJudge(PictureEncoder):
    """An encoder of pictures that encodes texts, too."""

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """N texts -> features [N D]."""

    @inference
    def similarity(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Cosines [B N] of images [B 3 H W] in [-1, 1] and texts, on the CPU."""
        parts = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
        said = torch.cat([self.embed_texts(part).float().cpu() for part in parts])
        return F.normalize(self.features(images), dim=1) @ F.normalize(said, dim=1).T


class DualEncoder(TextImageJudge, Trainable):
    """A picture and its prompt, each by an encoder of its own (CLIP, arXiv:2103.00020).

        contrast    symmetric cross-entropy among the rows of a group: which text is whose

    Rows of equal texts are not told apart. Features are means over an encoder's tokens.

    Args:
        vision: of pictures.
        trunk: of texts, whose tokens all read each other.
        text: the tokenizer of prompts.
        dim: D.
        length: tokens of a text that are read.
        group: rows among which a text is looked for; a step's rows must divide into groups.
    """

    tasks = frozenset({"text_to_image"})
    terms = frozenset({"contrast"})

    def __init__(
        self,
        vision: VisionEncoder,
        trunk: Trunk,
        text: TextTokenizer,
        dim: Count = 64,
        length: Count = TEXT_LENGTH,
        group: Count = 32,
    ):
        super().__init__()
        self.vision, self.trunk, self.text = vision, trunk, text
        self.length, self.group = length, group
        self.words = Embedding(text.vocab_size, trunk.dim)
        self.of_image, self.of_text = Linear(vision.dim, dim), Linear(trunk.dim, dim)
        self.contrast = Contrast()

    def settings(self) -> dict[str, Any]:
        return {"text": self.text.content_hash(), "length": self.length}

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        asked, shown = batch.segments[0].texts, batch.segments[-1].images
        images, texts = self.embed(shown), self.embed_texts(asked)
        told_apart = same_group(batch.slots, self.group) & ~twins(asked)
        return {"contrast": Term(self.contrast(images, texts, told_apart.to(images.device)))}

    def embed(self, images: Tensor) -> Tensor:
        return self.of_image(self.vision(images).mean(1))

    def embed_texts(self, texts: Sequence[Text]) -> Tensor:
        ids, valid = (x.to(self.device) for x in self.text.encode(texts, self.length))  # [N L]
        place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        hidden = self.trunk(Tokens(self.words(ids), Mask.full(valid), place))
        kept = valid[..., None].to(hidden)
        return self.of_text((hidden * kept).sum(1) / kept.sum(1))  # [N D]

    def tokens(self, batch: Batch) -> int:
        h, w = self.vision.grid(*batch.segments[-1].images.shape[-2:])
        return len(batch) * (self.length + h * w)

    def flops(self, batch: Batch) -> float:
        """Forward and backward of both encoders; comparing rows is little."""
        seen = self.vision.training_flops(*batch.segments[-1].images.shape[-2:])
        read = 3.0 * self.trunk.flops(self.length, self.length**2)
        maps = 6.0 * (self.of_image.weight.numel() + self.of_text.weight.numel())
        return len(batch) * (seen + read + maps)


class CLIPFolder(TextImageJudge):
    """A CLIP (arXiv:2103.00020) of transformers' format.

    `source` is a folder with model, tokenizer and preprocessor, or a name on the Hugging Face hub.
    An image is resized, not cropped, to the model's side; a text is cut at the model's length.
    """

    pretrained = True
    mean: Tensor
    std: Tensor

    def __init__(self, source: str):
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

        super().__init__()
        model = CLIPModel.from_pretrained(source, dtype=torch.float32)
        self.model: Any = model.requires_grad_(False).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        self.side, self.most = (
            model.config.vision_config.image_size,
            model.config.text_config.max_position_embeddings,
        )
        shown = CLIPImageProcessor.from_pretrained(source)
        for name, values in (("mean", shown.image_mean), ("std", shown.image_std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1))

    def settings(self) -> dict[str, Any]:
        return {"side": self.side, "most": self.most, "words": sorted(self.tokenizer.get_vocab())}

    def embed(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (self.side, self.side):
            sides = (self.side, self.side)
            images = F.interpolate(images, sides, mode="bicubic", antialias=True).clamp(-1, 1)
        shown = ((images + 1) / 2 - self.mean) / self.std
        return self.model.get_image_features(pixel_values=shown).pooler_output

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        cut: dict[str, Any] = {"padding": True, "truncation": True, "max_length": self.most}
        read = self.tokenizer(list(texts), return_tensors="pt", **cut).to(self.device)
        return self.model.get_text_features(**read).pooler_output
