"""Every claim that the studies under a folder wrote down, and what became of it, as Markdown."""

from pathlib import Path

from unify.answers.claims import TriedClaim, claims
from unify.answers.difference_cells import notes_text
from unify.answers.differences import comparisons
from unify.answers.score_lines import score_lines
from unify.answers.study_records import StudyRecord, load_study
from unify.answers.words import number
from unify.report.table_files import markdown_table

HEADS = ["claim", "tried as", "measured", "difference", "here"]


def findings(folder: Path) -> str:
    """A part for each study with claims, in the order of their names. ValueError if none has."""
    parts = []
    for path in sorted(folder.glob("*/study.json")):
        try:
            study = load_study(path.parent)
        except ValueError as error:  # of one study: the others are told
            parts.append(f"{error}.")
            continue
        parts += [_study(study)] if study.info.get("claims") else []
    if not parts:
        raise ValueError(f"{folder} has no study with `claims`; name a folder of studies, as runs")
    return "\n\n".join(parts) + "\n"


def _study(study: StudyRecord) -> str:
    title = f"## {study.info.get('title') or study.folder.name}"
    source = f"`{study.info.get('file')}`, {study.seeds_in_words} per arm."
    lines = score_lines(study.rows, study.seeds_have_parts)
    rows = [_row(claim) for claim in claims(study, lines, comparisons(study, lines)[0])]
    refused = [f"{reason}." for reason in study.refused]
    return "\n\n".join([title, source, *refused, markdown_table(HEADS, rows)])


def _row(claim: TriedClaim) -> list[str]:
    cells = [f"{claim.paper}: {claim.says}"]
    cells.append(f"{claim.metric}: {claim.better} better than {claim.worse}")
    if claim.one is None or claim.one.line is None:
        return [*cells, "–", "–", claim.judgement]
    means = [number(claim.one.line.cells[arm].value) for arm in (claim.better, claim.worse)]
    notes = notes_text(claim.one)
    difference = claim.one.mean_text + claim.one.interval_text + (f" ({notes})" if notes else "")
    return [*cells, " and ".join(means), difference, claim.judgement]
