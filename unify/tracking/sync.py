"""What MLflow does not have yet of a run, or of a study and all its runs: `unify sync`."""

from pathlib import Path

from unify.support.stop_protocol import PlainError
from unify.tracking.mlflow_delivery import journal_scores, read_settings
from unify.tracking.mlflow_process import Delivery, store_uri, together

SYNC_SILENCE = 60.0  # seconds for which a store may do nothing while nothing else is waited for


class NotSent(PlainError):
    """MLflow did not take what it was to take, or does not give what it has."""


def sync(folder: Path | str, uri: str = "", register: str = "") -> int:
    """Send everything that MLflow does not have yet of a run, or of a study and all its runs.

    It takes as long as the store works; `NotSent` once that has done nothing for SYNC_SILENCE
    seconds, or has failed.

    Args:
        folder: of a run, or of a study.
        uri: an MLflow URI; empty: where the runs' own settings say.
        register: a name in MLflow's registry that the run's exported weights get.

    Returns:
        the number of journal records sent.

    Raises:
        ValueError: a folder that is neither, a run that is not tracked, or scores that were edited.
    """
    folder = Path(folder)
    runs = [folder] if (folder / "run.json").is_file() else _runs_of(folder)
    if register and runs != [folder]:
        raise ValueError(f"{folder} is no run: name the run whose weights are to be {register!r}")
    post, refused = Delivery(SYNC_SILENCE), []
    for run in runs:
        try:
            setting = _setting(run, uri)
            place = store_uri(setting, run.resolve().parents[1])
            journal_scores(run)
            post.ask("run", run, place, register)
        except ValueError as error:
            if runs == [folder]:
                raise
            refused.append(str(error))
    if post.asked and runs != [folder] and (folder / "study.json").is_file():
        post.ask("study", folder, post.asked[-1][1])
    post.close(None)
    if missing := post.missing():
        names = ", ".join(map(str, together(list(missing))))
        store, why = next(iter(missing.values()))
        refused.append(f"MLflow at {store} does not have all of {names}: {why}")
    if refused:
        raise NotSent("\n".join(refused))
    return post.records()


def _runs_of(study: Path) -> list[Path]:
    runs = sorted(file.parent for file in study.glob("*/run.json"))
    if not runs:
        raise ValueError(f"{study} is neither a run, with a run.json, nor a study with runs")
    return runs


def _setting(run: Path, uri: str) -> str:
    setting = uri or (read_settings(run).get("machine") or {}).get("tracker") or ""
    if setting == "none":
        raise ValueError(f"{run} is not tracked (machine.tracker is none): name an MLflow --uri")
    return setting
