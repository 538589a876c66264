"""config.yaml of a run: read, named where it is damaged, and put back where it is gone."""

from pathlib import Path
from typing import Any

import yaml

from unify.config import read, save
from unify.runs.folder import Run
from unify.schema.completed import Config
from unify.support.strict_json import Types, damaged, wrong_type

NAME = "config.yaml"
AGAIN = "the command that trained the run (`unify train`, `unify study`) writes it anew"


def saved_config(run: Run, trusted_files: bool = False) -> Config:
    """The configuration of a run, checked. ValueError names a file that is gone or damaged.

    Unless `trusted_files`, no Python file that it names is run.
    """
    path = run.folder / NAME
    if not path.is_file():
        raise ValueError(f"{path} is gone; {AGAIN}")
    plain_config(path)
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


def put_back_config(run: Run, config: Config) -> None:
    """Write the configuration that a run was asked for by, if its file is gone."""
    if not (run.folder / NAME).exists():
        save(config, run.folder / NAME)
