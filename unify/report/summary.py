"""The page's first paragraph: what was done, what came out, and what cannot be told."""

from __future__ import annotations

from collections.abc import Sequence

from unify.report import budget_and_data, claims, differences, sizes_and_budgets
from unify.report.study_records import StudyRecord
from unify.report.tables import CONFIRMATORY_SEEDS, Line
from unify.report.words import number, plural, sentence


def summary(study: StudyRecord, found: Sequence[Line]) -> str:
    """What was done and measured, in sentences."""
    brief = len(study.arms) <= budget_and_data.MANY
    parts = [
        f"{plural(len(study.arms), 'arm')} ({sentence(study.arms) if brief else _grid(study)}), "
        f"{study.seeds_said} each."
    ]
    parts += _samples(study, brief)
    parts += _data(study)
    if not study.info.get("tune"):
        parts.append("No arm was tuned: settings and samplers are as the study says.")
    for line in found:
        if line.metric in study.primary and not line.note and brief:
            values = [f"{a} {number(c.value)}" for a, c in line.cells.items()]
            parts.append(f"{line.metric}: {', '.join(values)}.")
    parts += sizes_and_budgets.sentences(study, found)
    parts += [*differences.sentences(study, found), *claims.failed_controls(study, found)]
    fewest, _ = study.seeds_done
    if 0 < fewest < CONFIRMATORY_SEEDS:
        few = plural(fewest, "seed")
        parts.append(
            f"Exploratory: {few} per arm cannot tell a difference of arms from chance in training."
            if fewest == 1
            else f"Exploratory: {few} per arm find large differences only."
        )
    return " ".join(parts)


def _samples(study: StudyRecord, brief: bool) -> list[str]:
    """How many samples each arm saw, and of the tasks whose numbers differ."""
    said = []
    for quantity in budget_and_data.budget(study):
        arms: dict[str, list[str]] = {}
        for arm in quantity.values:
            arms.setdefault(quantity.text(arm), []).append(arm)
        each = [f"{text} ({sentence(its)})" for text, its in arms.items()]
        every = quantity.name == budget_and_data.SAMPLES
        if every and len(arms) == 1:
            said.append(f"{quantity.name}: {next(iter(arms))} per run.")
        elif every or (
            quantity.name.startswith(budget_and_data.OF_TASK) and len(arms) > 1 and brief
        ):
            said.append(f"{quantity.name}: {sentence(each) if brief else 'not equal'}.")
    return said


def _data(study: StudyRecord) -> list[str]:
    """Whether the arms that are compared read the same samples of the tasks they share."""
    pairs = budget_and_data.same_data(study, controls=False)
    kinds = {pair.kind for pair in pairs} - {"not applicable"}
    if not kinds:
        return []
    if "differs" in kinds:
        return ["Training data: not the same for every pair of arms."]
    if "not known" in kinds:
        return ["Training data: not known to be the same for every pair of arms."]
    far = {"prefix": " as far as the shorter run goes", "partly": " as far as both were logged"}
    until = next((far[kind] for kind in ("partly", "prefix") if kind in kinds), "")
    return [f"Training data: the same samples of every task that two arms share{until}."]


def _grid(study: StudyRecord) -> str:
    """`slow and fast at 9 points`."""
    arms = dict.fromkeys(arm for arm, _ in study.factors.values())
    points = len(dict.fromkeys(point for _, point in study.factors.values()))
    where = f" at {points} points of a grid" if points > 1 else ""
    return f"{sentence(list(arms))}{where}"
