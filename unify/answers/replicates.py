"""What the seeds of an arm share, as their runs recorded it, and what intervals know of it.

A seed with everything of its own is a replicate of the whole pipeline. What several seeds started
from, a tokenizer or one tuning, is one draw of it, and no interval over seeds knows how others
would have come out.
"""

from pathlib import Path

from unify.answers.study_records import StudyRecord
from unify.answers.words import sentence

WHOLE = (
    "Each seed is a whole pipeline: {what} anew under it, so intervals are over these too. Arms of "
    "one seed share what they have in common. Settings chosen by hand are one choice."
)
EXCEPT = (
    "All the same, seeds of {arms} started from one {parts}: that is one draw, and no interval "
    "here knows how another would have come out."
)


def shared_parts(study: StudyRecord) -> dict[str, list[str]]:
    """The names of needed runs and exports that several seeds of an arm started from, by arm.

    Equal weights of two trainings are not shared: a vocabulary may come out alike.
    """
    shared = {}
    for arm in study.arms:
        users: dict[tuple[str, str], set[int]] = {}
        for run in study.runs_of(arm):
            for part in run.needed:
                place = Path(part.get("folder") or part.get("hash") or "").name
                users.setdefault((str(part.get("name") or "a run"), place), set()).add(run.seed)
            for folder, digest in (run.info.get("exports") or {}).items():
                users.setdefault((Path(folder).name, str(digest)), set()).add(run.seed)
        names = dict.fromkeys(name for (name, _), seeds in users.items() if len(seeds) > 1)
        if names:
            shared[arm] = list(names)
    return shared


def whole_text(study: StudyRecord) -> str:
    """What intervals of a study of whole pipelines are over, and what its seeds share all the same;
    empty for a study whose seeds share what their arm starts from."""
    if not study.whole:
        return ""
    tuned = "trained and tuned" if study.info.get("tune") else "trained"
    before = any(run.needed for run in study.runs)
    own = "the arm, and the tokenizers and other runs that it starts from, are" if before else ""
    text = WHOLE.format(what=f"{own or 'the arm is'} {tuned}")
    by_parts: dict[tuple[str, ...], list[str]] = {}
    for arm, parts in shared_parts(study).items():
        by_parts.setdefault(tuple(parts), []).append(arm)
    for names, arms in by_parts.items():
        text += " " + EXCEPT.format(arms=sentence(arms), parts=sentence(list(names)))
    return text


def shared_text(study: StudyRecord) -> str:
    """Names what is shared, where the study's seeds share what their arm starts from."""
    names = dict.fromkeys(name for parts in shared_parts(study).values() for name in parts)
    if study.whole or not names:
        return ""
    return f"Shared by all seeds of an arm here: {sentence(list(names))}."
