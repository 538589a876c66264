"""The published study that `unify study --against` compares with: read first, and kept beside.

A copy in the study's folder lets `unify report` and MLflow make the same report anywhere.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unify.answers.pairing import source_of
from unify.answers.published_arms import PublishedArms, load_published
from unify.config import build
from unify.data.module import Data
from unify.data.source import source_fingerprint
from unify.runs.published_folder import AGAINST, check_own_folder, copy_published
from unify.schema.completed import Config
from unify.schema.study import PUBLISHED_ARM, Study
from unify.study.jobs import StudyRequest
from unify.support.portable import portable

Say = Callable[[str], None]


def published_for(request: StudyRequest, study: Study, say: Say) -> PublishedArms | None:
    """What the study is compared with; None where it is with nothing published.

    ValueError, before anything is trained, for a folder that is not whole, that has no arm which a
    claim or the baseline names, or none of the primary outcomes.
    """
    published = load_published(Path(request.against)) if request.against else None
    known = set(published.arms) if published else set()
    named = {study.baseline, *(arm for c in study.claims for arm in (c.better, c.worse))}
    absent = sorted(arm for arm in named if arm.startswith(PUBLISHED_ARM) and arm not in known)
    if absent and not (request.gather and published is None):
        has = f"{request.against} has {', '.join(sorted(known))}" if published else "none is given"
        raise ValueError(
            f"{request.path} names {', '.join(absent)}: give --against a folder that has it ({has})"
        )
    if published is None:
        return None
    metrics = published.metrics
    unknown = [metric for metric in study.primary if metric not in metrics]
    if unknown and len(unknown) == len(study.primary):
        raise ValueError(
            f"{request.against} has no scores of {', '.join(unknown)}: nothing that {request.path} "
            f"calls primary can be compared; it has {', '.join(sorted(metrics))}"
        )
    about = published.about
    say(f"compared with {about['study']} (unify {about['unify']}): {', '.join(sorted(known))}")
    if unknown:
        say(f"{request.against} has no scores of {', '.join(unknown)}, which is not compared")
    return published


def say_unlike(published: PublishedArms, arms: Mapping[str, Config], say: Say) -> None:
    """Say, before anything is trained, which own arms read or are asked something else.

    What is compared in the end is decided by the passports of the scores.
    """
    sources = {source_of(run) for run in published.runs}
    asked = {_written(n) for run in published.runs for n in run.config.get("evaluation") or []}
    by_text: dict[str, list[str]] = {}
    for arm, config in arms.items():
        source = _source(config)
        if source and source not in sources:
            each = ", ".join(sorted(sources))
            text = f"other data than the published arms ({source}, and not {each})"
            by_text.setdefault(text, []).append(arm)
        unlike = [n for n in config["evaluation"] if _written(n) not in asked]
        names = dict.fromkeys(str(node["class"]).rpartition(".")[2] for node in unlike)
        if names:
            text = f"{', '.join(names)} with other settings than the published arms"
            by_text.setdefault(text, []).append(arm)
    for text, some in by_text.items():
        say(f"{', '.join(some)}: {text}: scores on other prompts will not be compared")


def _source(config: Config) -> str:
    """The fingerprint of what an arm reads; empty where that cannot be read now."""
    try:
        data = build(config["data"])
        assert isinstance(data, Data)
        return source_fingerprint(data.source)
    except (ValueError, OSError):
        return ""


def _written(node: Any) -> str:
    """A node of `evaluation` as text that is equal for equal settings."""
    return json.dumps(portable(node), sort_keys=True, default=str)


def keep_published(
    request: StudyRequest, published: PublishedArms | None, folder: Path
) -> dict[str, str]:
    """Copy the published folder into the study's; returns what study.json says of it."""
    if published is None:
        return {}
    check_own_folder(folder / AGAINST)
    copy_published(Path(request.against), folder / AGAINST)
    return {
        "folder": request.against,
        "study": published.about["study"],
        "hash": published.about["hash"],
    }
