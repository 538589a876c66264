"""Train one run: configuration -> parts -> `Trainer.fit` -> run folder.

A run is found again by the hash of its configuration: a finished one is not trained twice, an
interrupted one resumes from its newest valid checkpoint, and a tokenizer that several runs need is
trained once.
"""

import datetime
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import lightning as L

from unify.assembly.exported_weights import check_written, save_export
from unify.costs.step_cost import encoding_of
from unify.data.source import source_fingerprint
from unify.distributed.lost_ranks import lost_ranks_as_error
from unify.distributed.ranks import (
    all_gather,
    barrier,
    broadcast_first,
    device_of,
    is_first,
    join,
    world,
)
from unify.paradigm import Fitted
from unify.runs.equal_training import adopt, other_code, record_scoring_parts, study_facts
from unify.runs.export_folder import stamps
from unify.runs.folder import (
    Run,
    finished_or_stopped,
    is_finished,
    parameter_counts,
    stop_facts,
)
from unify.runs.kept_code import keep_code
from unify.runs.lookup import find_equal_training, needed_configs, run_of
from unify.runs.saved_config import put_back_config, write_config
from unify.schema.completed import Config
from unify.schema.experiment import Recipe
from unify.support.atomic_files import DiskFull, is_full, write_atomically
from unify.support.environment import environment, git_diff
from unify.support.precision import precision_on
from unify.support.stop_protocol import Interrupted, LostOutput, kept_if_interrupted
from unify.support.terminal import echo
from unify.support.user_code import warn_of_imports
from unify.tracking.mlflow_process import delivery, ship, tracker
from unify.tracking.run_content import flatten
from unify.training.score_curve import assembled, score_curve
from unify.training.trainer import fit
from unify.training.trunk import begin_from_trunk, trunk_to_begin_from

Say = Callable[[str], None]
Watchers = Sequence[L.Callback]


def locate(config: Config, say: Say = echo) -> tuple[Run, dict[str, Run]]:
    """Run folder of a configuration, and the runs that it needs by their path in it.

    Needed runs are trained if they are missing, and waited for if another process trains them.
    """
    parts = needed_configs(config)
    needed = {
        path: finished_or_stopped(train(part, say, wait=True)) for path, part in parts.items()
    }
    weights = {path: run.weights for path, run in needed.items()} if is_first() else {}
    return run_of(config, broadcast_first(weights)), needed


def train(
    config: Config,
    say: Say = echo,
    watchers: Watchers = (),
    wait: bool = False,
    scored: bool = False,
) -> Run:
    """Train a run and the runs it needs, or resume what was stopped. All ranks call.

    Args:
        config: a completed configuration.
        say: takes lines for the user; the first rank speaks.
        watchers: callbacks that are called before those of the run.
        wait: wait for another process that writes the run, instead of an error.
        scored: whether the run is scored afterwards; what could not be is refused before it starts.

    Returns:
        the run: finished, or stopped by a signal and to be resumed.

    Raises:
        ValueError: what the user can mend; run.json then says `failed`.
        LostRanks: other ranks have gone.
    """
    with lost_ranks_as_error(), delivery():
        return _train(config, say, watchers, wait, scored)


def _train(config: Config, say: Say, watchers: Watchers, wait: bool, scored: bool) -> Run:
    say = _start(config["machine"], say)
    _agree(dict(flatten(config)), "was started with")
    run, needed = locate(config, say)
    _agree({"data": run.folder.name}, "reads other data:")
    if is_finished(run):
        _check_weights(run)
    with nullcontext() if is_finished(run) else run.writing(wait), _errors_in_words(run):
        if is_finished(run):  # perhaps by the process that was waited for
            say(f"{run.folder}: trained already{other_code(run)}{_other_precision(run, config)}")
            if is_first():
                put_back_config(run, config)
                record_scoring_parts(run, config, needed)
            return run
        other = broadcast_first(find_equal_training(run, config) if is_first() else None)
        if other:
            _adopt(run, other, config, needed, say)
            return run
        _set_ranks(config["machine"])
        trunk = trunk_to_begin_from(run, config, partial(train, say=say, wait=True))
        recipe, curve = assembled(config, needed, scored)
        facts = _begin(run, recipe, config, needed)
        begin_from_trunk(run, config, trunk, say)
        say(f"{run.folder}: {facts['paradigm']}, {facts['parameters']['trainable']:,} parameters")
        machine = recipe.machine
        kept = f"{run.folder} has all that was saved of it, and the same command goes on"
        track = is_first()
        with (
            kept_if_interrupted(kept),
            tracker(run.folder, machine.tracker, machine.runs) if track else nullcontext(),
        ):
            callbacks = [*watchers, *score_curve(run, recipe, curve)]
            _finish(run, recipe, config, say, callbacks, scored)
    return run


def _check_weights(run: Run) -> None:
    """`check_written` on the first rank; its ValueError on all."""
    problem = ""
    if is_first():
        try:
            check_written(run)
        except ValueError as error:
            problem = str(error)
    if problem := broadcast_first(problem):
        raise ValueError(problem)


def _other_precision(run: Run, config: Config) -> str:
    """A phrase for a finished run that was not trained in the precision that is asked for."""
    trained, asked = run.info.get("precision"), config["machine"]["precision"]
    if trained is None or asked in ("auto", trained):
        return ""
    return f", in {trained}; for one in {asked}, give another study= or machine.runs="


def _start(machine: Config, say: Say) -> Say:
    """Meet the other ranks; returns `say` on the first, and silence on the others."""
    join(machine["timeout"], machine["accelerator"])
    return say if is_first() else (lambda _: None)


def _agree(mine: dict[str, Any], verb: str) -> None:
    """Raise ValueError on all ranks if one differs from the first, naming the first key.

    `verb` completes the message: rank 1 `was started with` steps=5, and rank 0 steps=4.
    """
    first, *others = all_gather(mine)
    for rank, other in enumerate(others, 1):
        for key in sorted(first.keys() | other.keys()):
            if first.get(key) != other.get(key):
                raise ValueError(
                    f"rank {rank} {verb} {key}={other.get(key)}, and rank 0 {key}={first.get(key)}"
                    ": start all ranks by the same command, on the same files"
                )


def _set_ranks(machine: Config) -> None:
    """Set machine.devices and nodes from the launcher; ValueError if it started too few ranks."""
    launched, asked = world(), machine["devices"] * machine["nodes"]
    if launched.size == 1 and asked > 1:
        raise ValueError(
            f"machine asks for {asked} ranks, and this is one process: start it by `unify train`, "
            "torchrun or srun"
        )
    machine.update(devices=launched.local_size, nodes=launched.nodes)


@contextmanager
def _errors_in_words(run: Run) -> Iterator[None]:
    """Turn errors of a full disk, a lost folder and of libraries into ValueErrors with a remedy."""
    try:
        yield
    except LostOutput:
        raise
    except Exception as error:
        again = "and the same command goes on from the newest checkpoint"
        if not (run.folder / ".lock").exists():
            gone = f"{run.folder} is gone: it was moved or removed while it was written"
            raise ValueError(f"{gone}; put it back, {again}") from error
        if is_full(error):
            reason = error.__cause__ or error if isinstance(error, DiskFull) else error
            free = shutil.disk_usage(run.folder).free / 2**20
            full = f"{run.folder}: the disk is full ({reason}; {free:,.1f} MiB are free)"
            raise ValueError(f"{full}; make room, {again}") from error
        for words, remedy in REMEDIES.items():
            if words in str(error):
                raise ValueError(f"{run.folder}: {error}; {remedy}, {again}") from error
        raise


REMEDIES = {  # words of a library's error -> what to do
    "DataLoader worker": "a loader process was killed (by lack of memory, perhaps); see why",
    "DataLoader timed out": "see what the records are read from, or raise machine.timeout",
    "can't allocate memory": "lower machine.micro_batch, or free memory",
    "CUDA out of memory": "lower machine.micro_batch, or set machine.recompute",
}


def _adopt(run: Run, other: Run, config: Config, needed: dict[str, Run], say: Say) -> None:
    """Take over the result of `other`, a run with an equal training, and track it."""
    if is_first():
        say(adopt(run, other, config, needed))
        ship(run.folder, config["machine"]["tracker"], config["machine"]["runs"])
    barrier()


def _finish(
    run: Run, recipe: Recipe, config: Config, say: Say, watchers: Watchers, scored: bool
) -> None:
    """Train, export, and record in run.json how and when it ended."""
    start = time.monotonic()

    def spent() -> dict[str, Any]:
        before = run.info.get("train_seconds", 0)
        return {"train_seconds": round(before + time.monotonic() - start, 2), "ended": _now()}

    done, signal = recipe.steps, None
    try:
        if isinstance(recipe.model, Fitted):
            if is_first():
                recipe.model.fit(recipe.data.texts(FIT_TEXTS))
        else:
            done, signal = fit(run, recipe, say, watchers)
        if done == recipe.steps:
            warn_of_imports()
            weights = save_export(recipe.model, config["model"], run.folder / "export")
            written = stamps(run.folder / "export")
            # of a run that is scored, its card says so
            facts = {} if scored else {"encoding_flops_per_step": encoding_of(recipe)}
            run.update(state="finished", weights=weights, written=written, **facts, **spent())
        else:
            run.update(state="stopped", stopped=stop_facts(signal, done), **spent())
    except BaseException as error:
        state = "stopped" if isinstance(error, Interrupted) else "failed"
        with suppress(OSError, ValueError):  # the disk is full, or the folder gone
            run.update(state=state, **spent())
        raise
    if done == recipe.steps and signal:  # it came during the last step: nothing more begins
        raise Interrupted(signal)


FIT_TEXTS = 20_000  # texts that a vocabulary is fitted on


def _begin(run: Run, recipe: Recipe, config: Config, needed: dict[str, Run]) -> dict[str, Any]:
    """Write config.yaml, git.diff and the facts of run.json before the first step; the facts."""
    digest = ""
    if is_first():
        digest = write_config(run, config)
        keep_code(run, config)
        write_atomically(run.folder / "git.diff", git_diff())
    precision = precision_on(device_of(recipe.machine.accelerator), recipe.machine.precision)
    resumed = (run.folder / "run.json").exists()
    before = run.info.get("precision", precision) if resumed else precision
    run.update(
        **study_facts(run, config, needed),
        paradigm=type(recipe.model).__name__,
        hash=run.folder.name.rsplit("-", 1)[1],
        config=digest,
        state="running",
        steps=recipe.steps,
        parameters=parameter_counts(recipe.model),
        data=recipe.data.fingerprint(),
        source=source_fingerprint(recipe.data.source),
        # one that is resumed on another device, or by another setting, says both
        precision=before if before.endswith(precision) else f"{before}, then {precision}",
        environment=environment(),
        started=_now(),
    )
    return broadcast_first(run.info if is_first() else {})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
