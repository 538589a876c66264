"""config.yaml of a run: read, named where it is damaged, and put back where it is gone.

run.json holds a hash of its settings of the training (`config`), so that a model is built as it was
trained, or not at all.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from unify.config import OUTSIDE_HASH, read, save
from unify.runs.folder import Run
from unify.schema.completed import Config
from unify.support.portable import portable
from unify.support.strict_json import Types, damaged, wrong_type

NAME = "config.yaml"
AGAIN = "the command that trained the run (`unify train`, `unify study`) writes it anew"


def saved_config(run: Run, trusted_files: bool = False) -> Config:
    """The configuration of a run, checked. ValueError names a file that is gone or damaged, or says
    something else of the training than when it was written.

    Unless `trusted_files`, no Python file that it names is run.
    """
    path = run.folder / NAME
    if not path.is_file():
        raise ValueError(f"{path} is gone; {AGAIN}")
    content = plain_config(path)
    known = (run.folder / "run.json").is_file()
    found, recorded = _digest(content), run.info.get("config") if known else None
    if recorded is not None and found != recorded:  # none in older versions
        raise ValueError(
            f"{path} is not what {run.folder.name} was trained with: the hash of its settings is "
            f"{found}, and was {recorded}; put that file back, or remove it, and {AGAIN}"
        )
    return read(path, trusted=trusted_files)


def plain_config(path: Path) -> dict[str, Any]:
    """The file as plain data: the classes it names are neither checked nor imported.

    ValueError for a file that is empty, cut, or another one.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(damaged(path, reason, f"remove it, and {AGAIN}")) from error
    if wrong := "it is empty" if content is None else wrong_type(content, KINDS):
        raise ValueError(damaged(path, wrong, f"remove it, and {AGAIN}"))
    return content


KINDS: Types = {
    **dict.fromkeys(("model", "data", "machine", "logging", "seeds", "optimizer"), dict),
    **dict.fromkeys(("image_sampling", "text_sampling", "loss_weights"), dict),
    **{"name": str, "study": str, "steps": int, "evaluation": list},
}


def _digest(config: dict[str, Any]) -> str:
    """12 hex digits of what decides the training, without the folders of paths: those may move."""
    kept = {key: value for key, value in config.items() if key not in OUTSIDE_HASH}
    text = json.dumps(portable(kept), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_config(run: Run, config: Config) -> str:
    """Write config.yaml; returns the hash of it that run.json is to hold."""
    save(config, run.folder / NAME)
    return _digest(plain_config(run.folder / NAME))


def replace_config(run: Run, config: Config) -> None:
    """Write config.yaml, and its hash into run.json, of a run that there is."""
    digest = write_config(run, config)
    if (run.folder / "run.json").is_file() and run.info.get("config") != digest:
        run.update(config=digest)


def put_back_config(run: Run, config: Config) -> None:
    """Write the configuration that a run was asked for by, if its file is gone."""
    if not (run.folder / NAME).exists():
        replace_config(run, config)
