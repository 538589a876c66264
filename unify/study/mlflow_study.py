"""A study in MLflow: a parent run with report, tables and figures; the arms' runs below it.

`send_study` puts it there, `fetch_study` makes the study's folder of it again, on any machine.
"""

import json
from pathlib import Path
from typing import Any

from unify.answers.run_records import RUN_NAME
from unify.answers.study_answers import Answers, study_answers
from unify.answers.study_records import StudyRecord, load_study
from unify.answers.summary import summary
from unify.support.atomic_files import write_atomically
from unify.tracking.mlflow_delivery import (
    SHIPPED,
    connect,
    find_experiment,
    mlflow_name,
    without_password,
)
from unify.tracking.mlflow_process import store_uri, warned

MOST_RUNS = 50_000  # as many as MLflow lists at once
FILES = (
    "report.html",
    "report.md",
    "results.json",
    "answers.json",
    "results.csv",
    "table.tex",
    "study.json",
    "tuning.json",
)


def ship_study(folder: Path, setting: str, runs: Path | str) -> None:
    """Send what a study left, unless nothing is tracked (`setting`: machine.tracker).

    An MLflow that cannot be reached costs a warning: everything is in the study's folder.
    """
    if setting != "none":
        with warned(f"the study {folder.name}; `unify study` sends it again"):
            send_study(folder, store_uri(setting, runs))


def send_study(folder: Path, uri: str) -> str:
    """Send a study's folder, and put the runs of its arms below it. Returns the parent run's id.

    The id is the same however often it is sent.
    """
    study, client = load_study(folder), connect(uri)
    parent = _parent_run(study, client, uri)
    answers = study_answers(study)
    client.set_tag(parent, "mlflow.note.content", _note(answers))
    for line in answers.lines:
        if line.metric in study.primary and not line.note:
            if line.better is not None:
                client.set_tag(parent, f"better.{mlflow_name(line.metric)}", line.better)
            for arm, cell in line.cells.items():
                if cell.value is not None:
                    client.log_metric(parent, mlflow_name(f"{line.metric}/{arm}"), cell.value)
    for path in [folder / name for name in FILES] + sorted((folder / "figures").glob("*")):
        if path.is_file():
            client.log_artifact(parent, str(path), "figures" if path.parent != folder else None)
    children = {run_id for run in study.runs if (run_id := _mlflow_run(run.folder, uri))}
    for run_id in children:
        client.set_tag(run_id, "mlflow.parentRunId", parent)
    for child in _children(client, parent):
        if child.info.run_id not in children:  # of earlier settings
            client.delete_tag(child.info.run_id, "mlflow.parentRunId")
    client.set_terminated(parent, "FINISHED")
    return parent


def _note(answers: Answers) -> str:
    """The description on MLflow's page of the study, as Markdown."""
    info = answers.study.info
    parts = [f"**{info.get('question') or info['name']}**", summary(answers)]
    return "\n\n".join([*parts, "The whole report is `report.html` under *Artifacts*."])


def fetch_study(uri: str, name: str, into: Path) -> Path:
    """Download the newest study of a name, and its runs, to <into>/<name>; returns that folder.

    It holds what `unify.answers.study_records.load_study` reads. ValueError where the server has
    no such study, or the folder is there already.
    """
    client, folder = connect(uri), into / name
    if folder.exists():
        raise ValueError(f"{folder} is there already: a study that is fetched gets a new folder")
    parent, children = _find_study(client, uri, name)
    client.download_artifacts(parent.info.run_id, "", str(_new_folder(folder)))
    for child in children:
        place = child.info.run_name
        if RUN_NAME.fullmatch(place) and place == Path(place).name:
            client.download_artifacts(child.info.run_id, "", str(_new_folder(folder / place)))
    return folder


def _find_study(client: Any, uri: str, name: str) -> tuple[Any, list[Any]]:
    """The newest parent run of a study, and the runs below it."""
    store = without_password(uri)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        names = sorted(e.name for e in client.search_experiments() if e.name != "Default")
        raise ValueError(f"{store} has no study {name!r}; it has {', '.join(names) or 'none'}")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    parent = next((run for run in runs if "study" in run.data.tags), None)
    if parent is None:
        raise ValueError(
            f"{store} has runs of {name!r}, but no study: run `unify study` to its end"
        )
    return parent, _children(client, parent.info.run_id)


def _children(client: Any, parent: str) -> list[Any]:
    """The runs below a study's run in MLflow."""
    experiment = client.get_run(parent).info.experiment_id
    return client.search_runs(
        [experiment], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=MOST_RUNS
    )


def _new_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _parent_run(study: StudyRecord, client: Any, uri: str) -> str:
    """The id of the study's run in MLflow, made if need be."""
    sent = _mlflow_run(study.folder, uri)
    if sent:
        return sent
    experiment = find_experiment(client, uri, study.info["name"])
    tags = {"study": study.info["name"], "mlflow.source.name": str(study.info.get("file") or "")}
    made = client.create_run(experiment, run_name=f"study {study.info['name']}", tags=tags)
    state = {**_shipped(study.folder), without_password(uri): {"run_id": made.info.run_id}}
    write_atomically(study.folder / SHIPPED, json.dumps(state))
    return made.info.run_id


def _mlflow_run(folder: Path, uri: str) -> str | None:
    """The id of a folder's run at this URI; None if it has not been sent."""
    return _shipped(folder).get(without_password(uri), {}).get("run_id")


def _shipped(folder: Path) -> dict[str, Any]:
    """shipped.json of a folder, by URI."""
    path = folder / SHIPPED
    return json.loads(path.read_text()) if path.is_file() else {}
