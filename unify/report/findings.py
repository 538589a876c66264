"""Every claim that the studies under a folder wrote down, and what became of it, as Markdown."""

from __future__ import annotations

from pathlib import Path

from unify.report.claims import claims, judgement
from unify.report.differences import Comparison
from unify.report.study_records import StudyRecord, load_study
from unify.report.table_files import markdown_table
from unify.report.tables import lines
from unify.report.words import number

HEADS = ["claim", "tried as", "measured", "difference", "here"]


def findings(folder: Path) -> str:
    """A section for each study with claims, in the order of their names. ValueError if none has."""
    studies = [load_study(path.parent) for path in sorted(folder.glob("*/study.json"))]
    found = [_section(study) for study in studies if study.info.get("claims")]
    if not found:
        raise ValueError(f"{folder} has no study with `claims`; name a folder of studies, as runs")
    return "\n\n".join(found) + "\n"


def _section(study: StudyRecord) -> str:
    title = f"## {study.info.get('title') or study.folder.name}"
    said = f"`{study.info.get('file')}`, {study.seeds_said} per arm."
    rows = [_row(claim, one) for claim, one in claims(study, lines(study.rows))]
    return "\n\n".join([title, said, markdown_table(HEADS, rows)])


def _row(claim: dict[str, str], one: Comparison | None) -> list[str]:
    first, second = claim["higher"], claim["lower"]
    said = [f"{claim['paper']}: {claim['says']}", f"{claim['metric']}: {first} above {second}"]
    if one is None:
        return [*said, "–", "–", judgement(one)]
    means = [number(one.line.cells[arm].value) for arm in (first, second)]
    return [*said, " and ".join(means), one.figure + one.span, judgement(one)]
