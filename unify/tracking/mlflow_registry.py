"""The exported weights of a run as a version of a model in MLflow's registry."""

from pathlib import Path
from typing import Any

from unify.tracking.mlflow_delivery import read_facts, read_shipped
from unify.tracking.mlflow_store import connect

WEIGHTS = "unify.weights"  # tag of a version: the hash of its weights


def register(folder: Path, uri: str, name: str) -> None:
    """Upload <run>/export, and make it the newest version of the model `name`, once.

    The run has been sent to `uri` before. ValueError for one without exported weights.
    """
    export, facts, client = folder / "export", read_facts(folder), connect(uri)
    if not export.is_dir():
        raise ValueError(f"{folder} has no export to register: train it to its end")
    run_id, weights = read_shipped(folder)[uri]["run_id"], str(facts.get("weights"))
    if name not in {model.name for model in client.search_registered_models(f"name = '{name}'")}:
        client.create_registered_model(name)
    elif any(v.tags.get(WEIGHTS) == weights for v in _versions(client, name, run_id)):
        return
    for path in sorted(p for p in export.rglob("*") if p.is_file()):
        place = Path("export") / path.parent.relative_to(export)
        client.log_artifact(run_id, str(path), place.as_posix())
    source = f"{client.get_run(run_id).info.artifact_uri}/export"
    tags = {WEIGHTS: weights, "paradigm": str(facts.get("paradigm"))}
    client.create_model_version(name, source, run_id, tags=tags, await_creation_for=0)


def _versions(client: Any, name: str, run_id: str) -> list[Any]:
    return [v for v in client.search_model_versions(f"name = '{name}'") if v.run_id == run_id]
