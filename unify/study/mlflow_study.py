"""A study's folder made again from MLflow, on any machine: `fetch_study`.

What a study sends there is in unify/tracking/mlflow_parent.py.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from unify.answers.run_records import RUN_NAME
from unify.tracking.mlflow_parent import children
from unify.tracking.mlflow_process import store_uri
from unify.tracking.mlflow_store import BYTES_PER_SECOND, connect, import_mlflow, plain_words
from unify.tracking.silence import Silent, limit, tick
from unify.tracking.sync import SYNC_SILENCE, NotSent


def fetch_study(uri: str, name: str, into: Path) -> Path:
    """Download the newest study of a name, and its runs, to <into>/<name>; returns that folder.

    It holds what `unify.answers.study_records.load_study` reads. ValueError where the server has
    no such study, or the folder is there already; NotSent where the server fails, or does nothing
    for SYNC_SILENCE seconds.
    """
    folder, uri = into / name, store_uri(uri, into)
    if folder.exists():
        raise ValueError(f"{folder} is there already: a study that is fetched gets a new folder")
    staging = into / f".{name}.fetched"  # so that a folder of this name is whole
    shutil.rmtree(staging, ignore_errors=True)
    import_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        with limit(SYNC_SILENCE):
            _download(connect(uri), uri, name, staging)
        os.replace(staging, folder)
    except (MlflowException, Silent) as error:
        raise NotSent(f"MLflow at {uri}: {plain_words(error, uri)}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _download(client: Any, uri: str, name: str, folder: Path) -> None:
    parent, runs = _find_study(client, uri, name)
    _fetch(client, parent.info.run_id, _new_folder(folder))
    for run in runs:
        place = run.info.run_name
        if RUN_NAME.fullmatch(place) and place == Path(place).name:
            _fetch(client, run.info.run_id, _new_folder(folder / place))


def _fetch(client: Any, run_id: str, folder: Path, path: str | None = None) -> None:
    """Download the artifacts of a run, file by file: each is a sign of life."""
    for item in client.list_artifacts(run_id, path):
        if item.is_dir:
            _fetch(client, run_id, folder, item.path)
        else:
            tick((item.file_size or 0) / BYTES_PER_SECOND)
            place = folder / item.path
            place.parent.mkdir(parents=True, exist_ok=True)
            local = client.download_artifacts(run_id, item.path, str(folder))
            if Path(local) != place:  # some stores give the name alone, some the path
                os.replace(local, place)


def _find_study(client: Any, uri: str, name: str) -> tuple[Any, list[Any]]:
    """The newest parent run of a study, and the runs below it."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        names = sorted(e.name for e in client.search_experiments() if e.name != "Default")
        raise ValueError(f"{uri} has no study {name!r}; it has {', '.join(names) or 'none'}")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    own = [run for run in runs if "study" in run.data.tags and "config_hash" not in run.data.tags]
    parent = next(iter(own), None)
    if parent is None:
        raise ValueError(f"{uri} has runs of {name!r}, but no study: run `unify study` to its end")
    return parent, children(client, parent.info.run_id)


def _new_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
