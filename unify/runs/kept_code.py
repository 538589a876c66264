"""The user's Python files of a run: kept in `<run>/code/`, and compared when the run is used again.

run.json has the hash of the code behind each file (`code`), by the path that config.yaml gives.
"""

import os
from pathlib import Path

from unify.config import trained_code, user_files
from unify.config.loading import OVERLAYS
from unify.runs.folder import Run
from unify.schema.completed import Config
from unify.support.atomic_files import write_atomically
from unify.support.user_code import code_of

FOLDER = "code"


def keep_code(run: Run, config: Config) -> None:
    """Write all files that the configuration names, and what they import, as they lie together."""
    paths = user_files({k: v for k, v in config.items() if k not in OVERLAYS})
    folders = {os.path.dirname(path) for path in paths}
    common = os.path.commonpath(folders) if folders else ""
    for path in paths:
        place = run.folder / FOLDER / os.path.relpath(os.path.dirname(path), common)
        for name, content in code_of(path).items():
            write_atomically(place / name, content)


def check_code(run: Run, config: Config) -> None:
    """Raise ValueError if code that the run was trained with is another now, at its place or where
    files of its name were moved to.

    Runs of older versions have no record of it, and pass.
    """
    recorded = run.info.get("code", {})
    for path, now in trained_code(config).items():
        of_name = [code for file, code in recorded.items() if Path(file).name == Path(path).name]
        then = recorded.get(path, now if now in of_name else (*of_name, "none")[0])
        if recorded and then != now:
            raise ValueError(
                f"{path}, or what it imports, has changed since {run.folder} was trained: its code "
                f"is {now}, and was {then}; put back what is in {Path(run.folder, FOLDER)}, or "
                "train again"
            )
