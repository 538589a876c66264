"""Retrieval of captions: what a hit is, who is compared, and the judges."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_readers import Reads
from shapes_oracle import WORLD, Broken, Oracle, subject
from torch.nn import functional as F

from unify.batch import Batch
from unify.data.source import images, texts
from unify.metrics.caption_retrieval import CaptionRetrieval
from unify.metrics.metric import first_records
from unify.metrics.text_image_judge import CLIPFolder, DualEncoder, TextImageJudge
from unify.nn.init import initialise
from unify.nn.trunk import Trunk
from unify.nn.vision import PatchEncoder
from unify.noise import Noise
from unify.tokenizers.text import Bytes


class Fixed(TextImageJudge):
    """Features that are given by number: pictures [1 1 1] of a number, texts that are one."""

    def __init__(self, pictures, words):
        super().__init__()
        self.pictures, self.words = pictures, words
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def embed(self, shown):
        return self.pictures[(shown[:, 0, 0, 0] * 100).round().long()]

    def embed_texts(self, names):
        return self.words[[int(name) for name in names]]

    def settings(self):
        return {}


def scores_of(model, judge=None, **arguments):
    metric = CaptionRetrieval(judge or Reads(WORLD), **{"n": 80, "among": 16, **arguments})
    return {score.metric: score for score in metric.measure(subject(model))[0]}


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 10**6))
def test_a_hit_is_strictly_nearer_to_its_own_than_to_every_other(rows, captions, seed):
    """Against a count by hand; whole numbers, so that there are ties."""
    g = torch.Generator().manual_seed(seed)
    pictures, words = (torch.randint(1, 3, (n, 3), generator=g).float() for n in (rows, captions))
    among = int(torch.randint(2, captions + 1, (1,), generator=g))
    choices = torch.stack([torch.randperm(captions, generator=g)[:among] for _ in range(rows)])
    shown = (torch.arange(rows) / 100)[:, None, None, None].expand(-1, 3, 1, 1)
    hits = CaptionRetrieval(Fixed(pictures, words)).hits(
        shown, [str(n) for n in range(captions)], choices
    )
    for row in range(rows):
        near = [F.cosine_similarity(pictures[row], words[c], dim=0).item() for c in choices[row]]
        if min(abs(near[0] - other) for other in near[1:]) > 1e-6:  # else rounding says
            assert hits[row] == (near[0] > max(near[1:]))
        elif words[choices[row, 0]].tolist() in words[choices[row, 1:]].tolist():
            assert not hits[row], "a tie is none"


def test_the_truth_is_found_and_a_guess_by_chance_alone():
    knows = scores_of(Oracle(WORLD))
    assert [knows[name].value for name in knows] == [1.0] * 3
    guesses = scores_of(Broken(WORLD), among=4, n=200)
    assert guesses["text_to_image/retrieval"].value < 0.5
    assert guesses["judge/retrieval"].value == 1.0
    assert guesses["judge/retrieval"].better is None


def test_each_is_compared_with_captions_unlike_its_own_and_all_arms_with_the_same():
    records = first_records(WORLD, "text_to_image", "test", 80)
    metric, asked = CaptionRetrieval(Reads(WORLD), n=80, among=16), texts(records, "prompt")
    captions, choices = metric._choices(asked, records)
    for text, row in zip(asked, choices.tolist(), strict=True):
        assert captions[row[0]] == text
        assert len({captions[other] for other in row}) == 16
    assert torch.equal(choices, metric._choices(asked, records)[1])
    one, other = scores_of(Oracle(WORLD)), scores_of(Broken(WORLD))
    for name in one:
        assert one[name].passport["prompt_set"] == other[name].passport["prompt_set"]
        assert one[name].passport["judge"] == f"Reads {Reads(WORLD).content_hash()}"
        assert one[name].passport["among"] == 16


def test_too_few_captions_are_refused_before_anything_is_drawn():
    metric, asked = CaptionRetrieval(Reads(WORLD), n=8, among=64), subject(Oracle(WORLD))
    with pytest.raises(ValueError, match="to be told from 63 others: ask for more records"):
        metric.check(asked)
    assert asked.model.calls == []


# The judge that is trained here


def dual(**arguments):
    vision, trunk = PatchEncoder(32, 1, 2, patch=8), Trunk(32, 1, 2)
    judge = DualEncoder(vision, trunk, Bytes(), **{"dim": 16, "length": 40, "group": 4} | arguments)
    initialise(judge, 0)
    return judge


def batch_of(rows=8):
    records = first_records(WORLD, "text_to_image", "train", rows)
    keys = [record.key for record in records]
    return Batch.text_to_image(texts(records, "prompt"), images(records, "image"), keys)


def loss_of(judge, batch):
    return judge.loss(batch, Noise.for_batch(0, 0, batch))["contrast"].value


def test_its_loss_is_clips_in_float64_group_by_group():
    judge, batch = dual().double(), batch_of()
    batch.segments[-1].data = batch.segments[-1].images.double()
    batch.segments[0].data[3] = batch.segments[0].data[1]  # twins are not told apart
    value = loss_of(judge, batch)
    x = F.normalize(judge.embed(batch.segments[-1].images), dim=1)
    y = F.normalize(judge.embed_texts(batch.segments[0].texts), dim=1)
    scores = judge.contrast.logit_scale.exp() * x @ y.T
    for first in (0, 4):
        part = scores[first : first + 4, first : first + 4].clone()
        if first == 0:
            part[1, 3] = part[3, 1] = -torch.inf
        rows = torch.arange(4)
        each = [F.cross_entropy(s, rows, reduction="none") for s in (part, part.T)]
        torch.testing.assert_close(value[first : first + 4], sum(each) / 2)


def test_a_row_knows_nothing_outside_its_group_and_nothing_of_padding():
    judge, batch = dual(), batch_of()
    alone = Batch(
        batch.task, [s.rows(slice(4, 8)) for s in batch.segments], batch.keys[4:], [4, 5, 6, 7]
    )
    torch.testing.assert_close(loss_of(judge, batch)[4:], loss_of(judge, alone))
    longer = dual(length=64)
    longer.load_state_dict(judge.state_dict())
    torch.testing.assert_close(loss_of(judge, batch), loss_of(longer, batch))
    assert judge.content_hash() != longer.content_hash(), "a text may be cut elsewhere"


def test_it_learns_which_text_is_whose():
    judge, batch = dual(group=16), batch_of(16)
    optimizer = torch.optim.Adam(judge.parameters(), 3e-3)
    first = loss_of(judge, batch).mean()
    for _ in range(60):
        optimizer.zero_grad()
        loss = loss_of(judge, batch).mean()
        loss.backward()
        optimizer.step()
    assert loss < first / 4
    near = judge.similarity(batch.segments[-1].images, batch.segments[0].texts)
    assert (near.argmax(1) == torch.arange(16)).float().mean() > 0.8
    assert judge.flops(batch) > 0


# A judge of a folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A tiny CLIP as transformers saves it, with a tokenizer of letters."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    text = {**size, "num_attention_heads": 2, "vocab_size": 54, "max_position_embeddings": 12}
    text |= {"bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    vision = {**size, "num_attention_heads": 2, "image_size": 24, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(
        folder
    )
    sides = {"height": 24, "width": 24}
    CLIPImageProcessor(size={"shortest_edge": 24}, crop_size=sides).save_pretrained(folder)
    return folder


def test_a_folder_of_clip_says_what_transformers_says(clip_folder):
    from transformers import CLIPModel, CLIPProcessor

    judge, asked = CLIPFolder(str(clip_folder)), ["a red circle", "two blue squares of any size"]
    model, processor = (c.from_pretrained(clip_folder) for c in (CLIPModel, CLIPProcessor))
    pixels = torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8)
    inputs = processor(
        text=asked, images=list(pixels), return_tensors="pt", padding=True, truncation=True,
        max_length=12,
    )  # fmt: skip
    with torch.no_grad():
        said = model(**inputs)
    ours = judge.similarity(pixels.float() / 127.5 - 1, asked)
    wanted = said.logits_per_image / model.logit_scale.exp()
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


def test_a_folder_takes_any_size_and_is_named_by_what_it_holds(clip_folder):
    judge = CLIPFolder(str(clip_folder))
    assert judge.similarity(torch.zeros(2, 3, 40, 32), ["a" * 500]).shape == (2, 1)
    before = judge.content_hash()
    assert CLIPFolder(str(clip_folder)).content_hash() == before
    with torch.no_grad():
        judge.model.logit_scale.add_(1)
    assert judge.content_hash() != before
