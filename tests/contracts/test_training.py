"""What every paradigm must do in training."""

import pytest
import torch

from unify.nn.losses import weighted
from unify.noise import Noise
from unify.schema.experiment import Optimizer
from unify.tokenizer import ImageTokenizer
from unify.training.lightning_module import TrainingModule
from unify.training.optimizer import parameter_groups


def total_loss(subject, step=0, rows=3):
    rows_by_term = {}
    for task in subject.tasks:
        for name, term in subject.terms(subject.batch(task, rows), step).items():
            rows_by_term.setdefault(name, []).append(term)
    return weighted(rows_by_term, subject.recipe.loss_weights)


def test_terms_are_finite_per_sample_and_named_like_loss_weights(subject):
    names = set()
    for task in subject.tasks:
        for name, term in subject.terms(subject.batch(task)).items():
            assert term.value.shape == (3,)
            assert torch.isfinite(term.value).all()
            assert term.t is None or term.t.shape == (3,) or term.t.shape == term.each.shape
            assert term.each is None or (term.each.ndim == 2 and len(term.each) == 3)
            names.add(name)
    assert names == set(subject.recipe.loss_weights) == set(subject.model.terms)


def test_tasks_are_declared(subject):
    assert set(subject.tasks) <= subject.model.tasks


def test_every_trainable_parameter_gets_a_gradient(subject):
    total_loss(subject)[0].backward()
    for name, parameter in subject.model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_tokenizers_are_frozen_and_outside_the_model(subject):
    tokenizers = subject.model.tokenizers()
    before = {name: part.content_hash() for name, part in tokenizers.items()}
    inside = {id(p) for p in subject.model.parameters()}
    for part in tokenizers.values():
        if isinstance(part, ImageTokenizer):
            assert not part.training
            assert not any(p.requires_grad or id(p) in inside for p in part.parameters())
    subject.model.train()
    optimizer = torch.optim.AdamW(parameter_groups(subject.model, Optimizer()), lr=1e-2)
    for step in range(3):
        optimizer.zero_grad()
        total_loss(subject, step)[0].backward()
        optimizer.step()
    assert {name: part.content_hash() for name, part in tokenizers.items()} == before


def test_frozen_parameters_keep_their_bytes(subject):
    frozen = {n: p.clone() for n, p in subject.model.named_parameters() if not p.requires_grad}
    subject.model.train()
    optimizer = torch.optim.AdamW(parameter_groups(subject.model, Optimizer()), lr=1e-2)
    for step in range(2):
        optimizer.zero_grad()
        total_loss(subject, step)[0].backward()
        optimizer.step()
    now = dict(subject.model.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())


def test_one_batch_can_be_learned(subject):
    """With its noise held fixed, a batch of two rows per task is learned almost by heart.

    Within 150 steps; most need a third of them.
    """
    subject.model.train()
    settings = Optimizer(lr=4e-3, weight_decay=0.0)
    optimizer = torch.optim.AdamW(parameter_groups(subject.model, settings), lr=settings.lr)
    weights = {name: 1.0 if w else 0.0 for name, w in subject.recipe.loss_weights.items()}
    subject.recipe.loss_weights.update(weights)
    first = total_loss(subject, rows=2)[0].item()
    for _ in range(150):
        optimizer.zero_grad()
        loss, _ = total_loss(subject, rows=2)
        if loss < 0.15 * first:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(subject.model.parameters(), 1.0)
        optimizer.step()
    assert total_loss(subject, rows=2)[0].item() < 0.15 * first


def test_a_row_does_not_depend_on_its_batch_mates(subject):
    """Outside its group, which is one row unless the model declares more."""
    group = subject.model.group
    for task in subject.tasks:
        batch = subject.batch(task, 4 * group)
        whole = subject.terms(batch)
        for first in range(0, len(batch), group):
            rows = slice(first, first + group)
            alone = subject.terms(batch.rows(rows))
            for name, term in whole.items():
                torch.testing.assert_close(
                    term.value[rows], alone[name].value, atol=2e-5, rtol=2e-5
                )


def test_padding_changes_nothing(subject):
    names = subject.recipe.data.lengths
    for task in subject.tasks:
        short, long = (
            subject.terms(subject.batch(task, 3, dict.fromkeys(names, n))) for n in (120, 131)
        )
        for name, term in short.items():
            torch.testing.assert_close(term.value, long[name].value, atol=2e-5, rtol=2e-5)


def test_micro_batches_give_the_losses_and_gradients_of_one_batch(subject):
    """Ten micro-batches of 8 and one batch of 80; of the other tasks two of 8 and one of 16."""
    for task in subject.tasks:
        rows = 80 if task == subject.tasks[-1] else 16
        whole, parts = (in_micro_batches(subject, task, rows, size) for size in (rows, 8))
        torch.testing.assert_close(whole[0], parts[0], atol=1e-6, rtol=1e-5)
        for one, many in zip(whole[1], parts[1], strict=True):
            slack = 1e-5 * one.abs().max().item() + 1e-7
            torch.testing.assert_close(one, many, atol=slack, rtol=1e-4)


def in_micro_batches(subject, task, rows, size):
    """(loss, gradients) of one task, accumulated over micro-batches."""
    model, batch, values = subject.model, subject.batch(task, rows), []
    model.zero_grad()
    for start in range(0, rows, size):
        part = batch.rows(slice(start, start + size))
        terms = model.loss(part, Noise.for_batch(0, 0, part))
        loss, metrics = weighted({k: [v] for k, v in terms.items()}, subject.recipe.loss_weights)
        (loss * size / rows).backward()
        values.append(metrics["loss"].value)
    return torch.stack(values).mean(), [
        p.grad.clone() for p in model.parameters() if p.grad is not None
    ]


def test_a_flow_draws_its_start_and_its_time_from_the_streams_of_the_contract(subject):
    """So flows of two paradigms to one target see one noise, and the report can say so."""
    for task in subject.tasks:
        batch = subject.batch(task)
        noise = Noise.for_batch(0, 0, batch)
        timed = [term for term in subject.model.loss(batch, noise).values() if term.t is not None]
        places = {f"image{place}" for place in range(len(batch.segments))}
        starts = {name.removesuffix("/x0") for name in noise.drawn if name.endswith("/x0")}
        times = {name.removesuffix("/t") for name in noise.drawn if name.endswith("/t")}
        assert starts <= times <= places  # an encoder's mean may be a start without noise
        assert bool(times) == bool(timed)


def test_noise_is_the_only_chance(subject):
    for task in subject.tasks:
        torch.manual_seed(1)
        first = subject.terms(subject.batch(task))
        torch.manual_seed(2)
        second = subject.terms(subject.batch(task))
        assert all(torch.equal(term.value, second[name].value) for name, term in first.items())


def test_flops_and_tokens_are_constants_of_the_layout(subject):
    for task in subject.tasks:
        two, four = subject.batch(task, 2), subject.batch(task, 4)
        assert subject.model.tokens(four) == 2 * subject.model.tokens(two) > 0
        assert subject.model.flops(four) == pytest.approx(2 * subject.model.flops(two))
        assert subject.model.flops(two) > 0


def test_unknown_term_is_named(subject):
    experiment = TrainingModule(subject.model, {}, Optimizer(), steps=1)
    terms = subject.terms(subject.batch(subject.tasks[0]))
    with pytest.raises(ValueError, match="loss_weights has no"):
        weighted({name: [term] for name, term in terms.items()}, experiment.loss_weights)
