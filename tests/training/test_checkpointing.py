"""Checkpoints: resuming is bit-equal, and no crash, signal or full disk costs a valid one."""

import itertools
import json
import os
import random
import shutil
import signal
import tempfile
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_module import TinyModule, make_trainer, run

from unify.runs.checkpoint_folder import MANIFEST, STATE, damage, latest_valid, step_of, steps
from unify.runs.journal import Journal
from unify.support.atomic_files import sha256
from unify.training import checkpointing
from unify.training.callbacks import EachStep, Recorder
from unify.training.checkpoint_export import tensors
from unify.training.checkpointing import Checkpoints
from unify.training.strategies import REST, Single, shapes

STEPS = 6
pytestmark = pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fake_trainer(step: int) -> SimpleNamespace:
    """What `Checkpoints.save` needs of a trainer, without one."""
    state = {"step": step, "weights": torch.full((5000,), float(step))}

    def save_checkpoint(path: Path, weights_only: bool) -> None:
        path.mkdir()
        torch.save(state, path / REST)

    return SimpleNamespace(is_global_zero=True, global_rank=0, save_checkpoint=save_checkpoint)


def save(folder: Path, step: int, keep: int = 2) -> None:
    folder.mkdir(exist_ok=True)
    Checkpoints(folder, keep=keep).save(fake_trainer(step), step)  # type: ignore[arg-type]


@pytest.mark.fault(1, times=STEPS - 1)
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_resuming_at_any_step_ends_bit_equal(tmp_path, accumulation, beside):
    whole, _ = run(tmp_path / "whole", STEPS, accumulation=accumulation)
    records = Journal(tmp_path / "whole").records("train")
    assert [record["step"] for record in records] == [2, 4, 6]
    for stop in range(1, STEPS):
        folder = tmp_path / f"stopped{stop}"
        run(folder, STEPS, until=stop, every=0, accumulation=accumulation)
        assert names(folder / "checkpoints") == [f"step-{stop:08d}"]
        resumed, trainer = run(folder, STEPS, accumulation=accumulation, beside=beside)
        assert trainer.global_step == STEPS
        assert torch.equal(resumed.layer.weight, whole.layer.weight)
        assert Journal(folder).records("train") == records


@pytest.mark.fault(1)
def test_journal_written_after_the_checkpoint_is_written_anew(tmp_path):
    run(tmp_path / "whole", 8, every=3)
    run(tmp_path / "killed", 8, every=3)
    folder = tmp_path / "killed" / "checkpoints"
    shutil.rmtree(folder / "step-00000008")
    shutil.rmtree(folder / "step-00000006")
    run(tmp_path / "killed", 8, every=3)
    whole, killed = (Journal(tmp_path / name).path.read_text() for name in ("whole", "killed"))
    assert whole == killed


def test_checkpoints_load_without_unpickling_code(tmp_path):
    run(tmp_path, 3)
    newest = latest_valid(tmp_path / "checkpoints")
    assert newest is not None
    rest = torch.load(newest / STATE / REST, weights_only=True)
    assert rest["global_step"] == 3
    assert rest["callbacks"]["Recorder"]["data"]
    assert not {"rng_state", "rng"} & rest.keys()
    assert {"layer.weight", "optimizer.ema.layer.weight", "optimizer.exp_avg.layer.bias"} <= set(
        shapes(newest / STATE)
    )


def test_the_newest_are_kept_and_nothing_else_is_left(tmp_path):
    run(tmp_path, 7, every=2, keep=2)
    assert names(tmp_path / "checkpoints") == ["step-00000006", "step-00000007"]
    assert names(tmp_path / "checkpoints" / "step-00000007") == [MANIFEST, STATE]
    with pytest.raises(ValueError, match="keep_checkpoints"):
        Checkpoints(tmp_path, keep=0)


@pytest.mark.fault(9)
def test_tmpdir_plays_no_part(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    run(tmp_path, 1)
    assert latest_valid(tmp_path / "checkpoints") is not None


def in_a_child(work) -> int:
    """Run `work` in a forked process that may die at any moment; its exit status or -signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.fault(8, times=46)
def test_death_at_every_system_call_leaves_a_valid_checkpoint(tmp_path):
    calls = [(os, "rename"), (os, "fsync"), (os, "open"), (os, "mkdir"), (os, "unlink")]
    calls += [(os, "rmdir"), (torch, "save"), (shutil, "rmtree"), (Path, "write_text")]

    def save_and_die(folder: Path, at: int, after: bool) -> None:
        count = itertools.count()

        def dying(function):
            def call(*args, **kwargs):
                now = next(count) == at
                if now and not after:
                    os._exit(9)
                try:
                    return function(*args, **kwargs)
                finally:
                    if now:
                        os._exit(9)

            return call

        for place, name in calls:
            setattr(place, name, dying(getattr(place, name)))
        save(folder, 3)
        os._exit(0)

    for after in (False, True):
        for at in itertools.count():
            folder = tmp_path / f"{at}-{after}"
            save(folder, 1)
            save(folder, 2)
            status = in_a_child(lambda f=folder, n=at, a=after: save_and_die(f, n, a))
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # nothing is ever half there under its own name
                newest = latest_valid(folder)
            assert newest is not None
            assert torch.load(newest / STATE / REST, weights_only=True)["step"] in (2, 3)
            save(folder, 4)
            assert names(folder)[-1] == "step-00000004"
            assert len(names(folder)) == 2
            if status == 0:
                assert at > 8
                break
            assert status == 9


@pytest.mark.fault(7, times=12)
def test_kill_at_random_moments_loses_at_most_the_save_under_way(tmp_path):
    draw, reached = random.Random(0), 0

    def save_on() -> None:
        for step in itertools.count(reached + 1):
            save(tmp_path, step)
            (tmp_path / "done").write_text(str(step))

    for _ in range(12):
        child = os.fork()
        if child == 0:
            try:
                save_on()
            finally:
                os._exit(1)
        time.sleep(draw.uniform(0.005, 0.1) * (1 if reached else 5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        newest = latest_valid(tmp_path)
        done = (tmp_path / "done").read_text() if (tmp_path / "done").exists() else ""
        if done:
            assert newest is not None
            assert step_of(newest) >= int(done)
        reached = step_of(newest) if newest else 0
    assert reached > 0


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


DAMAGE = {
    "truncated": (lambda f: os.truncate(f / STATE / REST, 1000), "bytes instead of"),
    "one bit flipped": (
        lambda f: flip(f / STATE / REST, 2000),
        "content of state/rest.pt has changed",
    ),
    "state missing": (lambda f: (f / STATE / REST).unlink(), "state/rest.pt is missing"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "no manifest.json"),
    "manifest cut": (lambda f: os.truncate(f / MANIFEST, 30), "cannot be read"),
    "manifest of another": (
        lambda f: shutil.copy(f.parent / "step-00000001" / MANIFEST, f / MANIFEST),
        "another checkpoint's",
    ),
    "an empty folder": (lambda f: [shutil.rmtree(f), f.mkdir()], "no manifest.json"),
}


@pytest.mark.fault(10)
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_newest_checkpoint_is_named_and_passed_over(tmp_path, kind):
    save(tmp_path, 1)
    save(tmp_path, 2)
    spoil, reason = DAMAGE[kind]
    spoil(tmp_path / "step-00000002")
    with pytest.warns(UserWarning, match=f"step-00000002: .*{reason}"):
        newest = latest_valid(tmp_path)
    assert newest == tmp_path / "step-00000001"
    save(tmp_path, 2)  # the resumed run comes past the damaged one and replaces it
    assert latest_valid(tmp_path) == tmp_path / "step-00000002"


@pytest.mark.fault(10)
def test_a_damaged_later_checkpoint_never_costs_a_valid_one(tmp_path):
    save(tmp_path, 1, keep=1)
    save(tmp_path, 9, keep=2)
    (tmp_path / "step-00000009" / MANIFEST).unlink()
    save(tmp_path, 2, keep=1)
    with pytest.warns(UserWarning, match="step-00000009"):
        newest = latest_valid(tmp_path)
    assert newest == tmp_path / "step-00000002"


@pytest.mark.fault(10, examples=150)
def test_no_flipped_byte_of_a_manifest_is_an_error_or_goes_unseen(tmp_path):
    save(tmp_path, 1)
    folder = tmp_path / "step-00000001"
    whole = (folder / MANIFEST).read_bytes()
    unseen = []
    for at in range(len(whole)):
        flip(folder / MANIFEST, at)
        if damage(folder) is None and not whole[at : at + 1].isspace():
            unseen.append(whole[at : at + 1])
        (folder / MANIFEST).write_bytes(whole)
    assert not unseen


def test_no_checkpoint_is_none(tmp_path):
    assert latest_valid(tmp_path / "missing") is None


@pytest.mark.fault(23)
def test_a_failed_save_leaves_the_older_ones_and_no_rubbish(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(state, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001"]
    assert damage(tmp_path / "step-00000001") is None


def test_a_save_beside_training_holds_what_was_there_when_it_began(tmp_path, monkeypatch):
    run(tmp_path / "calm", 4)
    go, written = threading.Event(), Single.write

    def late(self, group):
        assert go.wait(60)
        written(self, group)

    class Slow(EachStep):  # two steps are made before a byte of the first save is written
        def each_step(self, trainer, module, step):
            if step == 4:
                assert not steps(tmp_path / "checkpoints")
                go.set()

    monkeypatch.setattr(Single, "write", late)
    run(tmp_path, 4, every=2, beside=True, extra=(Slow(),))
    assert names(tmp_path / "checkpoints") == ["step-00000002", "step-00000004"]
    for path in steps(tmp_path / "checkpoints"):
        assert damage(path) is None
        twin = tensors(tmp_path / "calm" / "checkpoints" / path.name / STATE)
        for name, value in tensors(path / STATE).items():
            assert torch.equal(value, twin[name])


@pytest.mark.fault(23)
def test_a_save_beside_training_that_fails_stops_it_soon(tmp_path, monkeypatch):
    written = Single.write

    def full(self, group):
        if "00000002" in str(self.folder):
            raise OSError(28, "No space left on device")
        written(self, group)

    monkeypatch.setattr(Single, "write", full)
    with pytest.raises(OSError, match="No space"):
        run(tmp_path, 8, every=1, beside=True)
    assert names(tmp_path / "checkpoints") == ["step-00000001"]
    assert damage(tmp_path / "checkpoints" / "step-00000001") is None
    monkeypatch.undo()
    resumed, _ = run(tmp_path, 8, beside=True)
    whole, _ = run(tmp_path / "whole", 8)
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


@pytest.mark.parametrize(
    "signum",
    [
        pytest.param(signal.SIGTERM, marks=pytest.mark.fault(11)),
        pytest.param(signal.SIGUSR1, marks=pytest.mark.fault(12)),
    ],
)
def test_a_signal_saves_at_the_end_of_the_optimizer_step_and_stops(tmp_path, signum):
    before = signal.getsignal(signal.SIGTERM)

    class Interrupted(TinyModule):
        def training_step(self, index, _):
            if index == 4:  # the first of the two micro-batches of step 3
                os.kill(os.getpid(), signum)
                os.kill(os.getpid(), signum)
            return super().training_step(index, _)

    checkpoints = Checkpoints(tmp_path / "checkpoints")
    callbacks = [Recorder(Journal(tmp_path), 1), checkpoints]
    trainer = make_trainer(STEPS, callbacks, accumulation=2)
    trainer.fit(Interrupted(STEPS))
    assert checkpoints.requested == signum
    assert trainer.global_step == 3
    assert [step_of(path) for path in steps(tmp_path / "checkpoints")] == [3]
    assert signal.getsignal(signal.SIGTERM) is before
    resumed, _ = run(tmp_path, STEPS, accumulation=2)
    whole, _ = run(tmp_path / "whole", STEPS, accumulation=2)
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


@pytest.mark.fault(38)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_lost_terminal_save_as_a_scheduler_s_signal_does(tmp_path, signum):
    class Interrupted(TinyModule):
        def training_step(self, index, _):
            if index == 2:
                os.kill(os.getpid(), signum)
            return super().training_step(index, _)

    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    make_trainer(STEPS, [Recorder(Journal(tmp_path), 1), checkpoints]).fit(Interrupted(STEPS))
    signal.signal(signal.SIGHUP, former)
    assert checkpoints.stopped_by == signum
    assert [step_of(path) for path in steps(tmp_path / "checkpoints")] == [3]


def test_a_run_that_was_asked_for_no_saves_makes_one_when_time_has_passed(tmp_path, monkeypatch):
    """The first rank's clock alone decides, and what is trained and recorded is the same."""
    whole, _ = run(tmp_path / "whole", STEPS, every=0)
    now = [0.0]
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now[0])

    class Clock(EachStep):
        def each_step(self, trainer, module, step):
            now[0] += checkpointing.UNASKED / 2 + 1

    saved, _ = run(tmp_path / "timed", STEPS, every=0, extra=(Clock(),))
    assert [step_of(p) for p in steps(tmp_path / "timed" / "checkpoints")] == [2, 4, 6]
    run(tmp_path / "asked", STEPS, every=5, extra=(Clock(),))
    assert [step_of(p) for p in steps(tmp_path / "asked" / "checkpoints")] == [5, 6]
    assert torch.equal(saved.layer.weight, whole.layer.weight)
    journals = [Journal(tmp_path / name).path.read_text() for name in ("whole", "timed")]
    assert journals[0] == journals[1]


def test_callbacks_with_state_must_come_before_it(tmp_path):
    with pytest.raises(AssertionError, match="last"):
        make_trainer(1, [Checkpoints(tmp_path), Recorder(Journal(tmp_path), 1)]).fit(TinyModule(1))


def test_what_a_crash_left_is_cleared_when_a_run_starts(tmp_path):
    (tmp_path / "checkpoints" / ".tmp-00000099").mkdir(parents=True)
    (tmp_path / "checkpoints" / ".tmp-00000099" / "half").write_bytes(b"half")
    run(tmp_path, 1, every=0)
    assert names(tmp_path / "checkpoints") == ["step-00000001"]
    assert steps(tmp_path / "checkpoints")


@pytest.mark.fault(15)
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_during_a_save_spoils_nothing(tmp_path, monkeypatch, signum, beside):
    written = Single.write

    def interrupted(self, group=None):
        if "00000002" in str(self.folder):
            os.kill(os.getpid(), signum)
        written(self, group)

    monkeypatch.setattr(Single, "write", interrupted)
    _, trainer = run(tmp_path, STEPS, beside=beside)
    assert trainer.global_step < STEPS
    assert all(damage(path) is None for path in steps(tmp_path / "checkpoints"))
    monkeypatch.undo()
    resumed, _ = run(tmp_path, STEPS)
    whole, _ = run(tmp_path / "whole", STEPS)
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


@pytest.mark.fault(6)
@pytest.mark.parametrize("lost", ["numbers", "tensors"])
def test_optimizer_state_that_lacks_a_parameter_is_refused_by_name(tmp_path, lost):
    run(tmp_path, 2)
    state = tmp_path / "checkpoints" / "step-00000002" / STATE
    rest = torch.load(state / REST, weights_only=True)
    del rest["optimizer_states"][0][lost]["layer.bias"]
    torch.save(rest, state / REST)
    manifest = json.loads((state.parent / MANIFEST).read_text())
    entry = {"bytes": (state / REST).stat().st_size, "sha256": sha256(state / REST)}
    manifest["files"][f"{STATE}/{REST}"] = entry
    (state.parent / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"optimizer state of other parameters .*layer\.bias"):
        run(tmp_path, STEPS)


@pytest.mark.fault(22)
def test_a_spike_of_the_loss_is_recorded_and_trained_through(tmp_path):
    class Spiked(TinyModule):
        def training_step(self, index, _):
            self._loss = super().training_step(index, _) * (1000 if index == 3 else 1)
            return self._loss

    trainer = make_trainer(STEPS, [Recorder(Journal(tmp_path), 1)])
    trainer.fit(Spiked(STEPS))
    losses = {record["step"]: record["loss"] for record in Journal(tmp_path).records("train")}
    assert list(losses) == list(range(1, STEPS + 1))
    assert losses[4] > 100 * max(loss for step, loss in losses.items() if step != 4)
