"""Frozen parts: eval for good, stored once, found again by their source. Numbers: invariants."""

import copy

import pytest
import torch
from tiny_module import make_trainer
from torch import nn

from unify.assembly.exported_weights import load_export, save_export
from unify.batch import Batch
from unify.nn.frozen import content_hash, freeze, kept_state, left_out, load_kept, sources
from unify.nn.init import initialise
from unify.paradigm import Term, Trainable
from unify.runs.checkpoint_folder import STATE
from unify.runs.folder import parameter_counts
from unify.schema.experiment import Optimizer
from unify.tokenizers.vq import VQ, FSQCodes
from unify.training.lightning_module import TrainingModule
from unify.training.strategies import REST, shapes

DIM = 4


class Reader(nn.Module):
    """Something that was trained elsewhere: a matrix, a statistic, dropout."""

    def __init__(self, seed=0):
        super().__init__()
        self.layer, self.drop = nn.Linear(DIM, DIM), nn.Dropout(0.5)
        self.register_buffer("mean", torch.zeros(DIM))
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    def forward(self, x):
        return self.drop(self.layer(x - self.mean))


class Net(Trainable):
    tasks = frozenset({"text"})
    terms = frozenset({"error"})

    def __init__(self, reader):
        super().__init__()
        self.reader, self.head = reader, nn.Linear(DIM, 1)

    def loss(self, batch, noise):
        return {"error": Term((self(noise.normal("x", (DIM,))) - 1).square())}

    def forward(self, x):
        return self.head(self.reader(x))[:, 0]


def make_net(source: str | None = "abc", seed=0, frozen=True):
    torch.manual_seed(seed)
    reader = Reader()
    if source:
        reader.source_hash = source
    return Net(freeze(reader) if frozen else reader)


READER = {"reader.layer.weight", "reader.layer.bias", "reader.mean"}
HEAD = {"head.weight", "head.bias"}
KINDS = ("exp_avg", "exp_avg_sq", "ema")


def x():
    return torch.randn(3, DIM, generator=torch.Generator().manual_seed(9))


def test_a_frozen_part_is_in_eval_mode_whatever_its_parent_does():
    net = make_net().train()
    assert net.training
    assert net.head.training
    assert not any(part.training for part in net.reader.modules())
    assert not any(p.requires_grad for p in net.reader.parameters())
    torch.manual_seed(1)
    first = net(x())
    torch.manual_seed(2)
    assert torch.equal(first, net(x()))


def test_a_copy_is_frozen_by_itself():
    net = make_net()
    other = copy.deepcopy(net).train()
    assert not other.reader.drop.training
    assert other.reader.train() is other.reader
    assert other.reader is not net.reader


def test_left_out_is_what_is_frozen_and_has_a_source():
    assert left_out(make_net()) == READER
    assert set(kept_state(make_net())) == HEAD
    assert sources(make_net()) == {"reader": "abc"}
    for kept in (make_net(source=None), make_net(frozen=False)):
        assert left_out(kept) == set()
        assert set(kept_state(kept)) == HEAD | READER


def test_a_part_with_one_trainable_parameter_is_kept_whole():
    net = make_net()
    net.reader.layer.bias.requires_grad_(True)
    assert left_out(net) == set()


def test_the_model_itself_is_never_left_out_and_parts_of_parts_go_with_them():
    net = make_net()
    net.requires_grad_(False).source_hash = "whole"
    net.reader.layer.source_hash = "inner"
    assert sources(net) == {"reader": "abc"}
    assert sources(nn.ModuleDict({"net": net})) == {"net": "whole"}


def test_what_was_kept_loads_strictly():
    net, other = make_net(seed=1), make_net(seed=2)
    state = kept_state(net)
    load_kept(other, state)
    assert torch.equal(net(x()), other(x()))
    for wrong, words in (
        ({"head.weight": state["head.weight"]}, r"lack head\.bias \(left out: reader\)"),
        (state | {"tail": torch.zeros(1)}, "have no place for tail"),
        (net.state_dict(), r"have no place for reader\.layer\.bias, "),
        ({}, r"lack head\.bias, head\.weight"),
        (state | {"head.bias": torch.zeros(2)}, r"have head\.bias of 2 instead of 1 \(left out: r"),
    ):
        with pytest.raises(ValueError, match=words):
            load_kept(make_net(), wrong)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (make_net("xyz"), "without reader, which came from abc; here it comes from xyz"),
        (make_net(None), "here it comes from nowhere: build it from the same weights"),
        (nn.Linear(2, 2), "without reader"),
    ],
)
def test_another_source_is_refused(other, words):
    with pytest.raises(ValueError, match=words):
        load_kept(other, kept_state(make_net()), sources(make_net()))


def test_a_second_stage_may_train_what_the_first_left_out():
    first, second = make_net(seed=1), make_net(frozen=False)
    load_kept(second, kept_state(first), sources(first))
    assert torch.equal(first(x()), second.eval()(x()))
    assert left_out(second) == set()


def test_a_part_that_was_filled_from_a_state_has_no_source_any_more():
    """Or a third stage, frozen again, would leave out what only the second stage's weights have."""
    second = make_net(frozen=False)
    with torch.no_grad():
        second.reader.layer.weight += 1
    third = make_net()
    load_kept(third, kept_state(second), sources(second))
    assert left_out(third) == set()
    assert torch.equal(second.eval()(x()), third(x()))


NODE = {"class": "unify.tokenizers.vq.VQ", "widths": [8, 8]}


def make_tokenizer(folder, seed=0):
    """A part with the weights of a run."""
    model = VQ(FSQCodes(), widths=[8, 8])
    if not folder.exists():
        initialise(model, seed)
        save_export(model, NODE, folder)
    load_export(model, folder)
    return model


def make_parent(folder):
    return nn.ModuleDict({"reader": freeze(make_tokenizer(folder)), "head": nn.Linear(8, 8)})


def test_an_export_names_what_it_leaves_out_and_reloads_to_an_equal_model(tmp_path):
    from safetensors import safe_open

    parent, twin = (make_parent(tmp_path / "part") for _ in range(2))
    digest = save_export(parent, {"class": "unify.x.Y"}, tmp_path / "whole")
    assert len(parent["reader"].source_hash) == 12
    with safe_open(tmp_path / "whole" / "model.safetensors", "pt") as file:
        assert set(file.keys()) == HEAD
        assert parent["reader"].source_hash in file.metadata()["left_out"]
    load_export(twin, tmp_path / "whole")
    assert twin.source_hash == digest
    assert all(
        torch.equal(value, twin.state_dict()[name]) for name, value in parent.state_dict().items()
    )


def test_an_export_is_another_with_another_left_out_part(tmp_path):
    one, other = make_parent(tmp_path / "a"), make_parent(tmp_path / "a")
    other["reader"] = freeze(make_tokenizer(tmp_path / "b", seed=1))
    other["head"].load_state_dict(one["head"].state_dict())
    node = {"class": "unify.x.Y"}
    assert save_export(one, node, tmp_path / "1") != save_export(other, node, tmp_path / "2")
    with pytest.raises(ValueError, match="saved without reader"):
        load_export(other, tmp_path / "1")


def test_counts_show_what_is_left_out(tmp_path):
    net = make_net()
    assert parameter_counts(net) == {
        "total": DIM * DIM + DIM + DIM + 1,
        "trainable": DIM + 1,
        "frozen_tokenizers": 0,
    }


def fitted(folder, steps, until, net):
    """Train from the checkpoint of `folder`, if there is one, and leave one there."""
    experiment = TrainingModule(net, {"error": 1.0}, Optimizer(lr=0.01, weight_decay=0.1), steps)
    batch = Batch.text(["a", "b"], ["a", "b"])
    trainer = make_trainer(until, [])
    path = folder / STATE if (folder / STATE).exists() else None
    batches = [{"text": batch}] * until
    loader = torch.utils.data.DataLoader(batches, batch_size=None, collate_fn=lambda part: part)
    trainer.fit(experiment, loader, ckpt_path=path, weights_only=True)
    folder.mkdir(exist_ok=True)
    trainer.save_checkpoint(folder / STATE, weights_only=False)
    return experiment


def test_training_keeps_every_frozen_byte_and_checkpoints_without_them(tmp_path):
    net = make_net()
    before = content_hash(net.reader)
    experiment = fitted(tmp_path, 20, 20, net)
    assert content_hash(net.reader) == before
    assert all(p.grad is None for p in net.reader.parameters())
    optimizer = experiment.optimizers(use_pl_optimizer=False)
    assert set(optimizer.state) == set(net.head.parameters())
    assert set(shapes(tmp_path / STATE)) == {
        *(f"model.{key}" for key in HEAD),
        *(f"optimizer.{kind}.model.{key}" for key in HEAD for kind in KINDS),
    }
    rest = torch.load(tmp_path / STATE / REST, weights_only=True)
    assert rest["left_out"] == {"reader": "abc"}


def test_a_run_resumes_from_a_checkpoint_without_its_frozen_parts(tmp_path):
    whole = fitted(tmp_path / "whole", 6, 6, make_net(seed=1)).model
    fitted(tmp_path / "halves", 6, 3, make_net(seed=1))
    halves = fitted(tmp_path / "halves", 6, 6, make_net(seed=2)).model
    assert all(map(torch.equal, whole.parameters(), halves.parameters()))
    with pytest.raises(ValueError, match="here it comes from xyz"):
        fitted(tmp_path / "halves", 6, 6, make_net("xyz"))


def test_the_content_is_that_of_the_weight_files_or_of_the_state(tmp_path):
    one, other = Reader(0), Reader(1)
    assert content_hash(one) == content_hash(Reader(0)) != content_hash(other)
    assert content_hash(one, "no/such/folder") == content_hash(one)
    for path, text in (("model.safetensors", "a"), ("config.json", "b"), ("README.md", "c")):
        (tmp_path / path).write_text(text)
    result = content_hash(one, str(tmp_path))
    assert result == content_hash(other, str(tmp_path)) != content_hash(one)
    (tmp_path / "README.md").write_text("d")
    assert content_hash(one, str(tmp_path)) == result
    (tmp_path / "config.json").write_text("e")
    assert content_hash(one, str(tmp_path)) != result
