"""A study's own run in MLflow, above those of its arms: report, tables, figures, verdicts.

It is made from the files that a study leaves in its folder; nothing is computed here.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unify.runs.published_folder import AGAINST, OUTCOMES, PUBLISHED
from unify.runs.stored_scores import content_hash
from unify.runs.study_files import Row, has_value
from unify.support.atomic_files import write_atomically
from unify.support.strict_json import read_strict_json
from unify.tracking.mlflow_delivery import SHIPPED, read_shipped
from unify.tracking.mlflow_store import connect, find_experiment, revive
from unify.tracking.run_content import mlflow_name, tags_of

MOST_RUNS = 50_000  # as many as MLflow lists at once
TAG_LENGTH = 5000  # characters of a tag's value: MLflow's limit
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


def send_study(folder: Path, uri: str) -> str:
    """Send a study's folder, and put the runs of its arms below it. Returns the parent run's id.

    The id is the same however often it is sent, unless that run is gone. ValueError if the folder
    is none of a study.
    """
    info, client = _json(folder, "study.json"), connect(uri)
    if not info:
        raise ValueError(f"{folder} is not a study: it has no study.json; run `unify study` first")
    parent = _parent_run(folder, info, client, uri)
    client.set_tag(parent, "mlflow.note.content", _note(folder, info))
    for key, value in _verdicts(_json(folder, "answers.json")):
        client.set_tag(parent, key, value[:TAG_LENGTH])
    _send_means(client, parent, info, _rows(folder))
    parts = sorted((folder / "figures").glob("*"))
    parts += [folder / AGAINST / name for name in (PUBLISHED, OUTCOMES) if info.get("against")]
    for path in [folder / name for name in FILES] + parts:
        if path.is_file():
            place = None if path.parent == folder else path.parent.name
            client.log_artifact(parent, str(path), place)
    _adopt(client, parent, folder, info.get("runs") or [], uri)
    client.set_terminated(parent, "FINISHED")
    return parent


def _json(folder: Path, name: str) -> Any:
    path = folder / name
    return read_strict_json(path.read_text("utf-8")) if path.is_file() else {}


def _rows(folder: Path) -> list[Row]:
    path = folder / "results.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else []


def _parent_run(folder: Path, info: dict[str, Any], client: Any, uri: str) -> str:
    """The id of the study's run in MLflow; made if need be, or if it is gone."""
    experiment = find_experiment(client, uri, info["name"])
    shipped = read_shipped(folder)
    sent = shipped.get(uri, {}).get("run_id")
    if sent and revive(client, sent):
        return sent
    tags = tags_of({"study": info["name"]}) | {"mlflow.source.name": str(info.get("file") or "")}
    made = client.create_run(experiment, run_name=f"study {info['name']}", tags=tags)
    state = {**shipped, uri: {"run_id": made.info.run_id}}
    write_atomically(folder / SHIPPED, json.dumps(state))
    return made.info.run_id


def _note(folder: Path, info: dict[str, Any]) -> str:
    """The description on MLflow's page of the study, as Markdown: what report.md begins with."""
    path = folder / "report.md"
    text = path.read_text("utf-8") if path.is_file() else f"# {info['name']}\n\n"
    first = text.partition("\n\n## ")[0].partition("\n\n")[2].strip()
    question = info.get("question")
    parts = [f"**{question or info['name']}**", first.removeprefix(question or "").strip()]
    return "\n\n".join([*parts, "The whole report is `report.html` under *Artifacts*."])


def _verdicts(answers: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Tags of answers.json: each difference in the primary metrics, claims and controls."""
    for one in answers.get("differences") or []:
        if one["primary"]:
            name = mlflow_name(f"verdict.{one['metric']}: {one['first']} - {one['second']}")
            yield name, _verdict(one)
    for number, claim in enumerate(answers.get("claims") or [], 1):
        yield f"claim.{number}", f"{claim['says']} ({claim['paper']}): {claim['judgement']}"
    for control in answers.get("controls") or []:
        yield mlflow_name(f"control.{control['control']}"), str(control["outcome"])


def _verdict(one: dict[str, Any]) -> str:
    """`higher: 0.12 [0.05, 0.19], adjusted p 0.01`; where there is no verdict, the reason."""
    numbers = []
    if one["estimate"] is not None:
        numbers.append(f"{one['estimate']:.4g}")
    if one["interval"] and None not in one["interval"]:
        numbers[-1:] = [" ".join([*numbers[-1:], "[{:.4g}, {:.4g}]".format(*one["interval"])])]
    if one["adjusted_p"] is not None:
        numbers.append(f"adjusted p {one['adjusted_p']:.2g}")
    said = one["verdict"] or one["reason"] or "no verdict"
    return f"{said}: {', '.join(numbers)}" if numbers else said


def _send_means(client: Any, parent: str, info: dict[str, Any], rows: list[Row]) -> None:
    """Log the mean over seeds of each arm in the primary metrics, and which values are better.

    Not of results.json that was edited, nor of a metric that an arm measured in several ways.
    """
    if info.get("results", content_hash(rows)) != content_hash(rows):
        return
    wanted = [r for r in rows if r["metric"] in (info.get("primary") or []) and has_value(r)]
    values: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in wanted:
        values[row["metric"], row["arm"]][row["seed"]].append(row["value"])
        if row.get("better") in ("higher", "lower"):
            client.set_tag(parent, mlflow_name(f"better.{row['metric']}"), row["better"])
    for (metric, arm), seeds in values.items():
        if all(len(each) == 1 for each in seeds.values()):
            mean = sum(each[0] for each in seeds.values()) / len(seeds)
            client.log_metric(parent, mlflow_name(f"{metric}/{arm}"), mean)
            client.log_metric(parent, mlflow_name(f"{metric}/{arm}.seeds"), len(seeds))


def _adopt(client: Any, parent: str, folder: Path, names: list[str], uri: str) -> None:
    """Put the study's runs below its own; those of earlier settings are below it no more."""
    states = [read_shipped(folder / name).get(uri, {}) for name in names]
    ids = {state["run_id"] for state in states if "run_id" in state}
    for run_id in ids:
        if revive(client, run_id):
            client.set_tag(run_id, "mlflow.parentRunId", parent)
    for child in children(client, parent):
        if child.info.run_id not in ids:
            client.delete_tag(child.info.run_id, "mlflow.parentRunId")


def children(client: Any, parent: str) -> list[Any]:
    """The runs below a study's run in MLflow."""
    experiment = client.get_run(parent).info.experiment_id
    return client.search_runs(
        [experiment], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=MOST_RUNS
    )
