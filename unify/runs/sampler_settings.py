"""`eval/settings.json` of a run: the settings of its samplers that were tried, and the best one.

    {"metric": "text_to_image/exact", "better": "higher", "best": 2, "settings": [
        {"values": {"image_sampling.guidance": 1.5}, "score": 0.71, "scores": {...}, "n": 64,
         "seconds": 3.1, "asked": "0f3c...", "precision": "32-true", "error": ""}, ...]}

The first setting is the arm's own. `best` is null until all have been tried. `hash` covers the
rest: what was edited or damaged is refused.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unify.runs.stored_scores import HASH, content_hash
from unify.support.atomic_files import write_atomically
from unify.support.strict_json import NUMBER, Types, damaged, read_mapping, strict_json, wrong_type

FILE = "settings.json"  # in <run>/eval
REMEDY = "remove it, and `unify study` tries the settings again"


@dataclass
class TriedSetting:
    """Values of sampler settings and what they scored.

    `asked`: the hash of all that the scores depend on; `score`: None for one that failed, whose
    `error` says why, or that has a score without a value.
    """

    values: dict[str, Any]
    score: float | None
    scores: dict[str, float | None]  # by metric
    n: int  # trials: prompts, questions
    seconds: float
    asked: str
    precision: str | None
    error: str = ""


@dataclass
class TriedSettings:
    """All settings of a run that have been tried, in their order."""

    metric: str
    better: str = "higher"
    best: int | None = None
    settings: list[TriedSetting] = field(default_factory=list)


def write_settings(run: Path, tried: TriedSettings) -> None:
    """Replace the file of a run folder."""
    content = json.loads(strict_json(asdict(tried)))
    text = strict_json({**content, HASH: content_hash(content)})
    write_atomically(run / "eval" / FILE, text)


def read_settings(run: Path) -> TriedSettings | None:
    """The file of a run folder; None if it has none. ValueError for one that is damaged."""
    path = run / "eval" / FILE
    if not path.is_file():
        return None
    content = read_mapping(path, REMEDY, OF_FILE)
    try:
        if content.get(HASH) != content_hash(content):
            raise ValueError("it has changed since it was written")
        return settings_from(content)
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(damaged(path, str(error), REMEDY)) from error


def settings_from(content: dict[str, Any]) -> TriedSettings:
    """Of JSON. ValueError, TypeError or LookupError for what is none."""
    for each in content["settings"]:
        if wrong := wrong_type(each, OF_SETTING):
            raise ValueError(wrong)
    tried = [TriedSetting(**each) for each in content["settings"]]
    best = content["best"]
    if best is not None and not 0 <= best < len(tried):
        raise ValueError(f"it has no setting {best}")
    return TriedSettings(content["metric"], content["better"], best, tried)


OF_FILE: Types = {**dict.fromkeys(("metric", "better", HASH), str), "settings": list}
OF_SETTING: Types = {
    **{"values": dict, "scores": dict, "n": int, "seconds": NUMBER},
    **dict.fromkeys(("asked", "error"), str),
}
