"""Which comparisons get a verdict: by the preset of the study.

Without a preset, all of the primary outcomes, corrected together. An exploratory study gives none.
A confirmatory one gives them to the comparisons that it named, once all its replicates are there
and were asked the prompts that its pre-registration seals. Each of its families is corrected by
itself, over all that it named: what was not measured counts as a test without a finding. All other
comparisons have intervals that hold together, and no verdict.
"""

from collections.abc import Sequence

from unify.analysis.multiple_tests import holm
from unify.answers.comparison import Comparison
from unify.answers.study_records import StudyRecord
from unify.answers.words import plural
from unify.runs.study_files import Row

CONFIRMATORY, EXPLORATORY = "confirmatory", "exploratory"
OF_A_LOOK = "no verdict: exploratory"
NOT_NAMED = "no verdict: not of a named family"


def correct(family: Sequence[Comparison]) -> None:
    """Adjust the p of a family of comparisons (Holm); those without p count for nothing."""
    adjusted = holm([one.p for one in family])
    tests = max(1, sum(p is not None for p in adjusted))
    for one, p in zip(family, adjusted, strict=True):
        one.adjusted, one.tests = p, tests


def judge(study: StudyRecord, some: Sequence[Comparison]) -> None:
    """Give the comparisons of the primary outcomes their adjusted p, or say why they have none."""
    if not study.preset:
        correct(some)
        return
    families: dict[str, list[Comparison]] = {}
    for one in some:
        one.family = family_of(study, one)
        one.unjudged = _why_unjudged(study, one)
        families.setdefault(one.family, []).append(one)
    for name, family in families.items():
        if name:
            _correct_named(family)
        else:
            for one in family:
                one.tests = sum(other.p is not None for other in family) or 1


def _correct_named(family: Sequence[Comparison]) -> None:
    """Adjust the p of a named family, in which a comparison without p or verdict has a p of 1."""
    adjusted = holm([1.0 if one.p is None or one.unjudged else one.p for one in family])
    for one, p in zip(family, adjusted, strict=True):
        one.adjusted = None if one.p is None or one.unjudged else p
        one.tests = len(family)


def judge_alone(study: StudyRecord, one: Comparison) -> None:
    """Try a comparison by itself, as a control is: everywhere but in an exploratory study."""
    if study.preset == EXPLORATORY:
        one.unjudged = OF_A_LOOK
    else:
        one.adjusted = one.p


def judge_claims(
    study: StudyRecord, primary: Sequence[Comparison], claimed: Sequence[Comparison]
) -> None:
    """Give the comparisons of claims their adjusted p: corrected together, without a preset.

    In a confirmatory study a claim has the verdict of the named comparison that it is about.
    """
    if not study.preset:
        correct(claimed)
        return
    for one in claimed:
        same = [
            other for other in primary if _about(other) == _about(one) and other.line is one.line
        ]
        named = next((other for other in same if other.family), None)
        if named is None:
            one.unjudged = OF_A_LOOK if study.preset == EXPLORATORY else NOT_NAMED
        else:
            one.family, one.unjudged = named.family, named.unjudged
            one.adjusted, one.tests = named.adjusted, named.tests


def pairs_of(study: StudyRecord, metric: str) -> list[tuple[str, str]]:
    """(A, B) of every comparison A - B on a primary outcome, those first that the study named."""
    named = [(one["first"], one["second"]) for one in study.named if one["metric"] == metric]
    written = {frozenset(pair) for pair in named}
    return [*named, *(pair for pair in study.pairs if frozenset(pair) not in written)]


def family_of(study: StudyRecord, one: Comparison) -> str:
    """The family that names a comparison; empty if none does."""
    for named in study.named:
        if (named["metric"], frozenset((named["first"], named["second"]))) == _about(one):
            return named["family"]
    return ""


def _about(one: Comparison) -> tuple[str, frozenset[str]]:
    return one.metric, frozenset((one.first, one.second))


def _why_unjudged(study: StudyRecord, one: Comparison) -> str:
    """Why a study with a preset gives a comparison no verdict; empty where it gives one."""
    if study.preset == EXPLORATORY:
        return OF_A_LOOK
    if not one.family:
        return NOT_NAMED
    if one.difference is None:
        return ""  # which says itself why there is none
    planned = set(study.seeds)
    if lacking := len(planned - set(one.seeds)):
        return f"no verdict yet: {plural(lacking, 'replicate')} of {len(planned)} to come"
    return "" if _was_sealed(study, one) else "no verdict: not asked of the sealed test"


def _was_sealed(study: StudyRecord, one: Comparison) -> bool:
    """True if all scores of both arms are on the prompts that the pre-registration seals."""
    if one.line is None:
        return False
    rows = (row for arm in (one.first, one.second) for row in one.line.cells[arm].rows.values())
    return all(_is_sealed(study, row) for row in rows)


def _is_sealed(study: StudyRecord, row: Row) -> bool:
    commit = (study.info.get("preregistration") or {}).get("commit") or ""
    said = str((row.get("passport") or {}).get("sealed") or "")
    return bool(commit) and said.endswith(f" at {commit[:12]}")


def arms_not_sealed(study: StudyRecord) -> list[str]:
    """The arms of named comparisons that were asked other prompts than the sealed ones."""
    named = {(each["metric"], each[role]) for each in study.named for role in ("first", "second")}
    rows = [row for row in study.rows if (row["metric"], row["arm"]) in named]
    other = {row["arm"] for row in rows if not _is_sealed(study, row)}
    return [arm for arm in study.arms if arm in other]
