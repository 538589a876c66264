"""The published study that `unify study --against` compares with: read first, and kept beside.

A copy in the study's folder lets `unify report` and MLflow make the same report anywhere.
"""

from collections.abc import Callable
from pathlib import Path

from unify.answers.published_arms import PublishedArms, load_published
from unify.runs.published_folder import AGAINST, check_own_folder, copy_published
from unify.schema.study import PUBLISHED_ARM, Study
from unify.study.jobs import StudyRequest

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
