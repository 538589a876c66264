"""The section Budget and data: what was matched between the arms, and what was not."""

from collections.abc import Sequence

from unify.answers.budget import budget
from unify.answers.cut_texts import cut_sentences
from unify.answers.not_matched import config_differences, not_matched
from unify.answers.run_records import RunRecord
from unify.answers.same_data import same_data
from unify.answers.score_lines import MANY, Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import plural, seeds_text, unbroken
from unify.report.html import Html, Node, facts, fold, join, tag

READING = (
    "Matched: equal to within 1 % over arms and seeds; a range is over seeds. FLOPs of "
    "training are those of the arm itself."
)
BADGES = {True: ("done", "matched"), False: ("open", "differs"), None: ("", "not in all")}


def section(study: StudyRecord, lines: Sequence[Line]) -> Html:
    """The budget, the data of each pair of arms, and everything that differs."""
    rows: list[list[Html | str]] = []
    for q in budget(study):
        kind, verdict = BADGES[q.matched]
        badge = tag("span", verdict, class_=f"badge {kind}")
        rows.append([q.name, *(unbroken(q.text(a)) for a in study.arms), badge])
    rows += [["Machine", *(_machine(study.runs_of(a)) for a in study.arms), ""]]
    unmatched, cut = not_matched(study), cut_sentences(study)
    parts: list[Node] = [
        facts(["", *study.arms, ""], rows, "budget"),
        tag("p", READING, class_="quiet"),
        tag("ul", *(tag("li", text) for text in cut), class_="cut") if cut else None,
        tag("h3", "Same data?"),
        _same_data(study),
        tag("h3", "What was not matched"),
        tag("ul", *(tag("li", text) for text in unmatched), class_="unmatched")
        if unmatched
        else tag("p", "Nothing that was recorded differs, besides the paradigm."),
        _settings(study),
    ]
    return join(parts)


def _same_data(study: StudyRecord) -> Html:
    """A row for every pair of arms that is compared."""
    pairs: list[list[Html | str]] = [
        [
            f"{p.first} – {p.second}",
            tag("span", p.kind, class_=f"badge {'done' if p.kind == 'identical' else 'open'}"),
            p.text,
            p.noise,
            seeds_text(p.seeds),
        ]
        for p in same_data(study)
    ]
    if not pairs:
        return tag("p", "Fewer than two arms have a run under the same seed.", class_="quiet")
    table = facts(["arms", "", "samples read, by their hash", "noise", ""], pairs)
    return fold(f"All {len(pairs)} pairs that are compared", table) if len(pairs) > MANY else table


def _settings(study: StudyRecord) -> Html | None:
    """Every setting that the arms do not share, folded away."""
    differing = config_differences(study)
    if not differing:
        return None
    rows = [[tag("code", k), *(v.get(a, "no run") for a in study.arms)] for k, v in differing]
    listing = facts(["setting", *study.arms], rows, "settings")
    return fold(f"{plural(len(differing), 'setting')} that differ", listing)


def _machine(runs: Sequence[RunRecord]) -> str:
    """The devices an arm ran on."""
    machines = []
    for run in runs:
        devices = [str(d.get("name")) for d in run.environment.get("accelerators") or []]
        cpu, cores = run.environment.get("cpu"), run.environment.get("cores")
        if not devices and cpu:
            devices = [f"{cpu}, {plural(cores, 'core')}" if cores else str(cpu)]
        machines.append(" + ".join(devices))
    return "; ".join(dict.fromkeys(filter(None, machines))) or "not stated"
