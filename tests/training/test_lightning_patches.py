"""What is replaced inside Lightning, and that a version without it is refused by its name."""

import ast
import signal
import warnings

import lightning
import pytest
from places import ROOT
from tiny_module import make_trainer

from unify.support.stop_protocol import PlainError
from unify.training import lightning_patches
from unify.training.lightning_patches import (
    keep_signals_ours,
    recount_micro_steps,
    silence_lightning,
)


def test_lightning_registers_no_handler():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    trainer = make_trainer(1, [])
    keep_signals_ours(trainer)
    trainer._signal_connector.register_signal_handlers()
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor()
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize(
    "member", ["_signal_connector", "_broadcast_sigterm_tensor", "register_signal_handlers"]
)
def test_a_lightning_without_a_member_is_refused_by_version(monkeypatch, member):
    trainer = make_trainer(1, [])
    if member == "_signal_connector":
        del trainer._signal_connector
    else:
        owners = (trainer._signal_connector, trainer.fit_loop.epoch_loop)
        (owner,) = (type(one) for one in owners if hasattr(one, member))
        monkeypatch.delattr(owner, member)
    monkeypatch.setattr(lightning, "__version__", "9.8.7")
    with pytest.raises(PlainError, match=rf"Lightning 9\.8\.7 has no Trainer\..*{member}") as error:
        keep_signals_ours(trainer)
    assert " to ".join(lightning_patches.TRIED) in str(error.value)


@pytest.mark.parametrize(("accumulation", "steps", "counted"), [(1, 3, 12), (4, 3, 3), (2, 5, 5)])
def test_micro_steps_are_counted_anew_from_the_optimizer_steps(accumulation, steps, counted):
    trainer = make_trainer(9, [], accumulation)
    loop = trainer.fit_loop.epoch_loop
    loop.automatic_optimization.optim_progress.optimizer.step.total.completed = steps
    done = loop.batch_progress.current
    done.ready, done.started, done.processed, done.completed = (
        counted,
        counted,
        counted,
        counted - 1,
    )
    recount_micro_steps(trainer)
    assert trainer.global_step == steps
    assert (done.ready, done.started, done.processed) == (steps * accumulation,) * 3
    assert done.completed == steps * accumulation - 1  # a step that a crash cut short stays so


def test_no_other_file_touches_a_private_member_of_a_trainer():
    result = {
        path.name
        for path in (ROOT / "unify").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and any("._" in f".{name}" for name in ast.unparse(node).split("trainer.")[1:])
    }
    assert not result


def test_warnings_that_do_not_apply_are_hidden_and_others_are_not():
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        warnings.simplefilter("always")
        silence_lightning()
        warnings.warn("Found 3 module(s) in eval mode at the start of training.", stacklevel=1)
        warnings.warn("The loss is not what it was.", stacklevel=1)
    assert [str(one.message) for one in shown] == ["The loss is not what it was."]
