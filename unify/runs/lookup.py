"""The run folder of a configuration, whether it exists, and the runs that it starts from.

    run_of(config, weights)     the folder, named by the hash of all that is trained
    find_run(config)            that run, if it exists; with `reuse`, else one that trained alike
    find_finished(config)       that run, if it is finished
    find_scored(config)         that run, if its scores can be those of what it is scored by now
    needed_configs(config)      the configurations of the runs whose weights it starts from
    find_needed(config)         those runs, if all of them are finished
    recorded_needed(run)        the runs that an existing run did start from
    find_by_name(folder, name)  a run by its arm and seed alone

Nothing is trained here; training/train_run.py trains what is missing.
"""

import re
import warnings
from glob import escape
from pathlib import Path

from unify.config import build, config_hash, load_recipe, needed_runs, weight_folders
from unify.data.module import Data
from unify.distributed.ranks import device_of
from unify.runs.equal_training import damage, needed_facts, reusable, unhashed_settings
from unify.runs.folder import Run
from unify.runs.saved_config import NAME, plain_config
from unify.schema.completed import Config
from unify.support.precision import precision_on
from unify.support.ranges import MOST_WHOLE


def run_of(config: Config, weights: dict[str, str]) -> Run:
    """The run of a configuration, whether it exists or not.

    Args:
        config: a completed experiment.
        weights: the hashes of the weights that it starts from, by the key of the needed run.
    """
    digest = config_hash(config, weights, data_fingerprint(config))
    name = f"{config['name']}-s{config['seeds']['init']}-{digest}"
    return Run(Path(config["machine"]["runs"]) / config["study"] / name)


def data_fingerprint(config: Config) -> str:
    """Of what a configuration reads. ValueError or OSError if it cannot be read."""
    data = build(config["data"])
    assert isinstance(data, Data)
    return data.fingerprint()


def needed_configs(parent: Config) -> dict[str, Config]:
    """The configurations of the runs that `parent` starts from, by key, on its machine.

    Its `needed_seeds` are added to the seeds of each, and to what each starts from; not to a run
    that only its evaluation reads, as replicates are scored by one instrument. ValueError for a run
    that both its training and its evaluation read, and for seeds of more than 64 bits.
    """
    configs = {}
    added = parent.get("needed_seeds")
    for key, needed in needed_runs(parent).items():
        config = load_recipe(needed.path, tiny=needed.tiny)
        config = _add_to_seeds(config, dict.fromkeys(config["seeds"], needed.seed))
        if added and needed.trains:
            if needed.scores and any(added.values()):
                raise ValueError(
                    f"{needed.path} is needed by the training and by the evaluation of "
                    f"{parent['name']}: a replicate trains its own, and all are scored by one; "
                    "give the evaluation another `weights.seed`"
                )
            config = _with_needed_seeds(_add_to_seeds(config, added), added)
        configs[key] = {**config, "machine": parent["machine"]}
    return configs


def replicate(config: Config, seed: int, of_needed: int | None = None) -> Config:
    """An arm under one of its study's seeds, which is added to each of the arm's own.

    `of_needed` and the arm's own seeds are added to those of all that the arm starts from, and of
    what that starts from: a whole pipeline under one seed. None: all seeds of an arm share it.
    """
    own = _add_to_seeds(config, dict.fromkeys(config["seeds"], seed)) | {"replicate": seed}
    if of_needed is None:
        return own
    return _with_needed_seeds(own, {k: of_needed + v for k, v in config["seeds"].items()})


def _with_needed_seeds(config: Config, added: dict[str, int]) -> Config:
    """The configuration whose needed runs have these numbers added to their seeds."""
    own = config.get("needed_seeds") or {}
    total = {name: own.get(name, 0) + number for name, number in added.items()}
    # where nothing is added, the run is that of a study whose needed runs are shared
    return {**config, "needed_seeds": total if any(total.values()) else None}


def _add_to_seeds(config: Config, added: dict[str, int]) -> Config:
    seeds = {name: own + added[name] for name, own in config["seeds"].items()}
    if max(seeds.values()) > MOST_WHOLE:
        raise ValueError(f"seeds of {config['name']} exceed 64 bits; take a smaller seed")
    return {**config, "seeds": seeds}


def find_run(config: Config, reuse: bool = False) -> Run | None:
    """The run of a configuration, in any state; None if it or a needed run does not exist.

    With `reuse`, a finished run that trained alike counts where its own does not exist. Raises
    ValueError or OSError if the data that it names cannot be read.
    """
    needed = find_needed(config)
    if needed is None:
        return None
    run = run_of(config, {key: part.weights for key, part in needed.items()})
    if (run.folder / "run.json").is_file():
        return run
    return find_equal_training(run, config) if reuse else None


def find_run_if_data(config: Config, reuse: bool = False) -> Run | None:
    """`find_run`, and None, too, where the data that it names cannot be read."""
    try:
        return find_run(config, reuse)
    except (ValueError, OSError):
        return None


def find_finished(config: Config, reuse: bool = False) -> Run | None:
    """`find_run_if_data`, and None, too, where the run is not finished."""
    run = find_run_if_data(config, reuse)
    return run if run and run.finished else None


def find_scored(config: Config) -> Run | None:
    """`find_finished`, and None, too, where the runs that it is scored by are others now than when
    it was last trained or asked for: its scores are old."""
    run = find_finished(config)
    needed = find_needed(config) if run is not None else None
    if run is None or needed is None:
        return None
    before = run.info.get("needed")
    if not isinstance(before, dict):  # of an older version
        return run
    alike = all(before.get(k, {}).get("hash") == part.weights for k, part in needed.items())
    return run if alike else None


def find_equal_training(run: Run, config: Config) -> Run | None:
    """A finished run of another study or arm that was trained as `config`, the one of `run`, asks.

    None where such a run must not be shared (equal_training.reusable). One that is damaged is
    warned about and passed over.
    """
    if not reusable(config):
        return None
    wanted, accelerator = unhashed_settings(config), config["machine"]["accelerator"]
    for folder in sorted(run.folder.parents[1].glob(f"*/*-{run.hash}")):
        other = Run(folder)
        if folder == run.folder or not _is_finished(other):
            continue
        saved = unhashed_settings(_saved_config(folder))
        # what `auto` was there, not the word; runs from before it have a setting of their own
        trained = other.info.get("precision", saved["machine"].get("precision"))
        saved["machine"]["precision"] = asked = wanted["machine"]["precision"]
        # late: to ask a GPU what it multiplies in takes a share of its memory
        if saved == wanted and trained == precision_on(device_of(accelerator), asked):
            reason = damage(other)
            if reason is None:
                return other
            warnings.warn(f"{folder} is passed over, though trained alike: {reason}", stacklevel=2)
    return None


def _is_finished(run: Run) -> bool:
    """`Run.finished`; False where run.json cannot be read."""
    try:
        return run.finished
    except (ValueError, LookupError, TypeError):
        return False


def _saved_config(folder: Path) -> Config:
    """config.yaml as plain data; nothing where it is gone or damaged."""
    try:
        return plain_config(folder / NAME)
    except (OSError, ValueError):
        return {}


def find_needed(config: Config) -> dict[str, Run] | None:
    """The finished runs that a configuration starts from, by key; None if one is missing."""
    needed = {}
    for key, part in needed_configs(config).items():
        run = find_run(part, reuse=True)
        if run is None or not run.finished:
            return None
        needed[key] = run
    return needed


def recorded_needed(run: Run) -> dict[str, Run]:
    """The runs that `run` started from, by key, with the hash of their weights as it recorded it.

    Each is looked for beside `run` first, as all were perhaps moved or copied together, and then
    where it was; ValueError if it is in neither, or if an export that it started from has changed.
    """
    for folder, then in run.info.get("exports", {}).items():
        try:
            now = weight_folders({"class": None, "weights": folder})[folder]
        except OSError as error:
            raise ValueError(
                f"{run.folder} started from the export {folder}, which cannot be read "
                f"({error.strerror}); put it back there"
            ) from error
        if now != then:
            raise ValueError(
                f"{folder}: the weights differ from the hash that {run.folder} recorded: it is "
                f"{now}, and was {then}; put those back, or train again"
            )
    needed = run.info["needed"].items()
    return {key: Run(_place(run, part["folder"]), part.get("hash", "")) for key, part in needed}


def set_scoring_runs(run: Run, config: Config) -> None:
    """Record the runs, with their hashes, from which the evaluation alone starts that is asked now.

    Those that `run` was trained from stay as they were recorded then. Nothing is recorded where
    one of the others is not finished.
    """
    stated = run.info.get("needed")
    asked = {key for key, needed in needed_runs(config).items() if not needed.trains}
    found = find_needed(config) if asked else {}
    if not isinstance(stated, dict) or found is None:
        return
    now = {key: part for key, part in needed_facts(config, found).items() if key in asked}
    kept = {key: part for key, part in stated.items() if not part.get("scores")}
    if (wanted := {**now, **kept}) != stated:
        run.update(needed=wanted)


def _place(run: Run, folder: str) -> Path:
    """The folder, now, of the needed run that was at `folder` when `run` was trained."""
    beside = run.folder.absolute().parents[1] / Path(*Path(folder).parts[-2:])
    for place in (beside, Path(folder)):
        if (place / "export").is_dir():
            return place
    raise ValueError(
        f"{run.folder} needs {folder}, which is neither there nor in {beside.parent}; keep the "
        "folders of a study and of the runs that it needs together"
    )


def find_by_name(folder: Path, name: str) -> Run | None:
    """A run `<arm>-s<seed>` of a study's folder, or else of another study beside it."""
    run = f"{escape(name)}-*"
    found = [*folder.glob(run), *folder.parent.glob(f"*/{run}")]
    hashed = re.compile(f"{re.escape(name)}-[0-9a-f]+")  # `a-s1-s0-...` is no run of `a` at seed 1
    runs = [f for f in found if hashed.fullmatch(f.name) and (f / "run.json").exists()]
    return Run(runs[0]) if runs else None
