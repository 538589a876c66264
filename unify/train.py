"""One run: configuration -> parts -> `Trainer.fit` -> run folder. The whole wiring, read downward.

A run is found again by its hash: what is finished is not trained twice, what was interrupted
resumes from its newest valid checkpoint, and a tokenizer that several runs need is trained once.
"""

from __future__ import annotations

import datetime
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import Strategy

from unify.callbacks import Health, Recorder, SampleGrids
from unify.checkpoint import STATE, Checkpoints, latest_valid
from unify.config import (
    build,
    build_recipe,
    config_hash,
    load_recipe,
    needed_key,
    needed_runs,
    read,
    save,
)
from unify.config.classes import locate_class
from unify.data.module import Data
from unify.distributed import is_first, join, together, told, world
from unify.environment import environment, git_diff
from unify.evaluate import preview, subject_of
from unify.experiment import Experiment
from unify.gradients import Gradients
from unify.journal import Journal
from unify.nn.attention import set_backend
from unify.nn.init import initialise
from unify.paradigm import Fitted, Paradigm, Trainable
from unify.recipe import Machine, Recipe
from unify.reuse import adopt, belongs, same_training
from unify.runs import Run, load_export, parameter_counts, save_export
from unify.sharding import construct, fill, recompute, shard, units_of
from unify.strategy import Sharded, environment_of, strategy_of
from unify.tokenizer import ImageTokenizer, TextTokenizer, Tokenizer
from unify.tracking import ship, tracker

Config = dict[str, Any]
Say = Callable[[str], None]


def locate(config: Config, say: Say = print) -> tuple[Run, dict[str, Run]]:
    """The run folder of a configuration, and those of the runs it needs (trained if missing).

    One that another process is training is waited for.
    """
    parts = needed_configs(config)
    needed = {path: completed(train(part, say, wait=True)) for path, part in parts.items()}
    return run_of(config, {path: run.info["weights"] for path, run in needed.items()}), needed


def run_of(config: Config, weights: dict[str, str]) -> Run:
    """The run folder of a configuration, by the hashes of the weights that it starts from."""
    data = build(config["data"])
    assert isinstance(data, Data)
    digest = config_hash(config, weights, data.fingerprint())
    name = f"{config['name']}-s{config['seeds']['init']}-{digest}"
    return Run(Path(config["machine"]["runs"]) / config["study"] / name)


def needed_configs(parent: Config) -> dict[str, Config]:
    """The configurations of the runs that one needs, by their keys, on its machine."""
    found = {}
    for key, needed in needed_runs(parent).items():
        config = load_recipe(needed.path, tiny=needed.tiny)
        found[key] = {**seeded(config, needed.seed), "machine": parent["machine"]}
    return found


def seeded(config: Config, added: int) -> Config:
    """A configuration with a number added to each of its seeds."""
    return {**config, "seeds": {name: own + added for name, own in config["seeds"].items()}}


class Stopped(Exception):
    """A signal stopped a run before its last step; the same command resumes it."""


def completed(run: Run) -> Run:
    if not told(run.finished):
        raise Stopped(f"{run.folder} was stopped by a signal; the same command resumes it")
    return run


def assemble(config: Config, needed: dict[str, Run], meta: bool = False) -> Recipe:
    """Build every part; trained parts get the weights of the runs they name.

    With `meta`, parameters that are to be drawn have no memory yet (unify/sharding.py).
    """
    torch.manual_seed(config["seeds"]["init"])

    def load_weights(part: Any, weights: Any) -> None:
        said = weights if isinstance(weights, dict) else {}
        folder = needed[needed_key(said)].folder / "export" if said else Path(weights)
        if isinstance(part, torch.nn.Module):
            fill(part)
        load_export(part, folder, said.get("part", ""))

    def seeded_construct(cls: type, arguments: Config) -> Any:
        if issubclass(cls, Tokenizer) and not tokenizer:  # untrained: alike, whatever is around it
            torch.manual_seed(config["seeds"]["init"])
        return construct(cls, arguments) if meta else cls(**arguments)

    tokenizer = issubclass(locate_class(config["model"]["class"], trusted=True), Tokenizer)
    recipe = build_recipe(config, load_weights, construct=seeded_construct)
    if meta and any(p.is_meta for p in kept_parameters(recipe.model)):
        return assemble(config, needed)  # it fills tables of its own from what is pretrained
    return recipe


def in_shards(config: Config) -> bool:
    """Whether the model of a run is cut over several ranks: a paradigm's, not a tokenizer's."""
    cls = locate_class(config["model"]["class"], trusted=True)
    sharded = config["machine"]["strategy"] == "fsdp" and world().size > 1
    return sharded and issubclass(cls, Paradigm)


def kept_parameters(model: Any) -> Iterator[torch.nn.Parameter]:
    """Those that a pretrained part brought: `initialise` does not draw them."""
    for part in model.modules():
        if getattr(part, "pretrained", False):
            yield from part.parameters()


def train(
    config: Config, say: Say = print, watchers: Sequence[L.Callback] = (), wait: bool = False
) -> Run:
    """Train what is missing; returns the run: finished, or stopped by a signal and to be resumed.

    `wait` for another process that writes the run. ValueError for what the user can mend; the run
    folder then says `failed`.
    """
    say = _start(config["machine"], say)
    run, needed = locate(config, say)
    with _writing(run, wait):
        if told(run.finished):  # perhaps only now, by the process that was waited for
            say(f"{run.folder}: trained already")
            return run
        other = told(same_training(run, config) if is_first() else None)
        if other:
            _adopt(run, other, config, needed, say)
            return run
        recipe = assemble(config, needed, meta=in_shards(config))
        facts = _begin(run, recipe, config, needed)
        say(f"{run.folder}: {facts['paradigm']}, {facts['parameters']['trainable']:,} parameters")
        machine = recipe.machine
        with tracker(run.folder, machine.tracker, machine.runs) if is_first() else nullcontext():
            _finish(run, recipe, config, say, watchers)
    return run


def _start(machine: Config, say: Say) -> Say:
    """Meet the other ranks, if there are any; the first speaks for all."""
    here = join(machine["timeout"], machine["accelerator"])
    asked = machine["devices"] * machine["nodes"]
    if here.size == 1 and asked > 1:
        raise ValueError(
            f"machine asks for {asked} ranks, and this is one process: start it by `unify train`, "
            "torchrun or srun"
        )
    machine.update(devices=here.local_size, nodes=here.nodes)
    return say if is_first() else (lambda _: None)


@contextmanager
def _writing(run: Run, wait: bool) -> Iterator[None]:
    """The lock of a run that is not finished; the first rank holds it for all."""
    with ExitStack() as stack:
        refused = None
        if is_first() and not run.finished:
            try:
                stack.enter_context(run.writing(wait))
            except ValueError as error:
                refused = str(error)
        if refused := told(refused):
            raise ValueError(refused)
        yield


def _adopt(run: Run, other: Run, config: Config, needed: dict[str, Run], say: Say) -> None:
    if is_first():
        say(adopt(run, other, config, needed))
        ship(run.folder, config["machine"]["tracker"], config["machine"]["runs"])
    together()


def _finish(
    run: Run, recipe: Recipe, config: Config, say: Say, watchers: Sequence[L.Callback]
) -> None:
    """Train, export, and write down how it ended."""
    start = time.monotonic()
    try:
        if isinstance(recipe.model, Fitted):
            if is_first():
                recipe.model.fit(recipe.data.texts(FIT_TEXTS))
            complete = True
        else:
            complete = _fit(run, recipe, say, watchers)
        if complete:
            weights = save_export(recipe.model, config["model"], run.folder / "export")
            run.update(state="finished", weights=weights)
        else:
            run.update(state="stopped")
    except BaseException:
        run.update(state="failed")
        raise
    finally:
        spent = run.info.get("train_seconds", 0) + time.monotonic() - start
        run.update(train_seconds=round(spent, 2), ended=_now())


FIT_TEXTS = 20_000  # texts that a vocabulary is fitted on
CALIBRATION_IMAGES = 256  # validation images that a tokenizer's latent scale is measured on


def _begin(run: Run, recipe: Recipe, config: Config, needed: dict[str, Run]) -> dict[str, Any]:
    """Write down what this run is before it starts."""
    if is_first():
        save(config, run.folder / "config.yaml")
        (run.folder / "git.diff").write_text(git_diff())
    run.update(
        **belongs(run, config, needed),
        paradigm=type(recipe.model).__name__,
        hash=run.folder.name.rsplit("-", 1)[1],
        state="running",
        steps=recipe.steps,
        parameters=parameter_counts(recipe.model),
        data=recipe.data.fingerprint(),
        source=recipe.data.source.fingerprint(),
        environment=environment(),
        started=_now(),
    )
    together()
    return run.info


def _fit(run: Run, recipe: Recipe, say: Say, watchers: Sequence[L.Callback]) -> bool:
    """Gradient training, from the newest valid checkpoint if there is one; whether it is done."""
    assert isinstance(recipe.model, Trainable)
    machine = recipe.machine
    if machine.threads:
        torch.set_num_threads(machine.threads)
    set_backend(machine.attention)
    if machine.recompute:
        recompute(recipe.model)
    if machine.compile:
        for unit in units_of(recipe.model):
            unit.compile()
    strategy = strategy_of(machine, world(), isinstance(recipe.model, Paradigm))
    place = partial(shard, seed=recipe.seeds.init) if isinstance(strategy, Sharded) else None
    if place is None:
        initialise(recipe.model, recipe.seeds.init)
    experiment = Experiment(
        recipe.model,
        recipe.loss_weights,
        recipe.optimizer,
        recipe.steps,
        recipe.ema,
        recipe.seeds,
        place,
    )
    recipe.data.prepare(recipe.seeds.data, machine.workers)
    callbacks = [*watchers, *_callbacks(run, recipe, experiment, say)]
    trainer = _trainer(machine, recipe, strategy, callbacks, run.folder)
    newest = told(latest_valid(run.folder / "checkpoints") if is_first() else None)
    if newest is not None:
        say(f"resuming from {newest}")
    path = newest / STATE if newest else None
    trainer.fit(experiment, recipe.data, ckpt_path=path, weights_only=True)
    if experiment.rows_per_step:  # 0 where all steps had been made before
        run.update(
            rows_per_step=experiment.rows_per_step,
            tokens_per_step=experiment.tokens_per_step,
            flops_per_step=experiment.flops_per_step,
        )
    _count_cuts(run, recipe, say)
    if trainer.global_step < recipe.steps:
        return False
    experiment.finish()
    if isinstance(recipe.model, ImageTokenizer):
        there = recipe.data.source.size("image", "validation")
        batch = recipe.data.batch("image", "validation", range(min(there, CALIBRATION_IMAGES)))
        recipe.model.calibrate(batch.segments[0].images)
    return True


def _callbacks(run: Run, recipe: Recipe, experiment: Experiment, say: Say) -> list[L.Callback]:
    """What watches, records, draws and saves while a run trains."""
    journal, every = Journal(run.folder), recipe.logging
    subject = subject_of(recipe, recipe.seeds.init)
    return [
        Health(journal, every.metrics_every, say),
        Recorder(journal, every.metrics_every),
        Gradients(journal, every.gradients_every),
        SampleGrids(
            run.folder / "samples",
            every.samples_every,
            lambda step: preview(subject, recipe.machine.precision),
            experiment.averaged,
        ),
        Checkpoints(run.folder / "checkpoints", every.checkpoint_every, every.keep_checkpoints),
    ]


def _count_cuts(run: Run, recipe: Recipe, say: Say) -> None:
    """Say how many texts were longer than their `data.lengths`, since the run was (re)started."""
    if isinstance(recipe.model, Paradigm):
        tokenizers = recipe.model.tokenizers().values()
        cut = sum(part.cut for part in tokenizers if isinstance(part, TextTokenizer))
        run.update(texts_cut=cut)
        if cut:
            say(f"{cut} texts did not fit into their data.lengths and were cut")


def accumulation(tasks: dict[str, int], machine: Machine, group: int = 1) -> int:
    """Micro-steps per optimizer step so that one holds at most `micro_batch` rows per device.

    Groups of `group` rows whose losses depend on each other are never split (`Trainable.group`).
    """
    devices = machine.devices * machine.nodes
    whole = devices * group
    for task, n in tasks.items():
        if group > 1 and n % whole:
            raise ValueError(
                f"data.tasks.{task} is {n} rows, but the model keeps groups of {group} rows "
                f"together on each of {devices} device(s); make it a multiple of {whole} "
                "or change model.group"
            )
    if not machine.micro_batch:
        return 1
    rows = sum(tasks.values())
    for parts in range(1, rows + 1):
        shares = parts * devices
        divides = all(n % (shares * group) == 0 for n in tasks.values())
        if divides and rows // shares <= machine.micro_batch:
            return parts
    raise ValueError(
        f"machine.micro_batch is {machine.micro_batch}, but no number of micro-steps divides "
        f"data.tasks {tasks} over {devices} devices into so few rows"
        f"{f' without splitting groups of {group} (model.group)' if group > 1 else ''}; make the "
        "tasks' rows share a larger divisor or raise micro_batch"
    )


def _trainer(
    machine: Machine, recipe: Recipe, strategy: Strategy, callbacks: list, folder: Path
) -> L.Trainer:
    """Lightning does the loop; journal, checkpoints and progress are ours."""
    assert isinstance(recipe.model, Trainable)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*`isinstance.treespec.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start.*")  # frozen parts are
    # the step says which samples are next (unify/data/module.py)
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    return L.Trainer(
        accelerator=machine.accelerator,
        devices=machine.devices,
        num_nodes=machine.nodes,
        strategy=strategy,
        precision=machine.precision,
        max_steps=recipe.steps,
        max_epochs=-1,
        accumulate_grad_batches=accumulation(recipe.data.tasks, machine, recipe.model.group),
        callbacks=callbacks,
        plugins=[environment_of(world())],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )


def open_run(folder: Path, trusted_files: bool = False) -> tuple[Run, Config, Recipe]:
    """A finished run, its configuration, and its parts with the exported weights, in eval mode."""
    run = Run(folder)
    if run.info["state"] != "finished":
        raise ValueError(f"{folder} is {run.info['state']}; finish it with `unify train` first")
    config = read(run.folder / "config.yaml", trusted=trusted_files)
    needed = {path: _needed_by(run, known["folder"]) for path, known in run.info["needed"].items()}
    recipe = assemble(config, needed)
    load_export(recipe.model, run.folder / "export")
    if isinstance(recipe.model, Trainable):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        recipe.model.to(device).eval()
        if isinstance(recipe.model, Paradigm):
            for tokenizer in recipe.model.tokenizers().values():
                if isinstance(tokenizer, torch.nn.Module):
                    tokenizer.to(device)
    return run, config, recipe


def _needed_by(run: Run, folder: str) -> Run:
    """A run that this one started from: where it was, or beside this one if all were moved."""
    places = [Path(folder), run.folder.parent.parent / Path(*Path(folder).parts[-2:])]
    for place in places:
        if (place / "export").is_dir():
            return Run(place)
    raise ValueError(
        f"{run.folder} needs {folder}, which is neither there nor in {places[1].parent}; keep the "
        "folders of a study and of the runs that it needs together"
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
