"""Filters of the gallery, by category and by verdict: radio buttons and styles, no script."""

from __future__ import annotations

from collections.abc import Sequence

from unify.report.html import Html, join, tag

VERDICTS = {  # id -> (label, class that a card must have; empty: any)
    "v-all": ("all", ""),
    "v-wrong": ("some arm wrong", "some-wrong"),
    "v-right": ("every arm right", "all-right"),
    "v-differ": ("arms differ", "differs"),
}


def verdict_classes(verdicts: Sequence[bool | None]) -> list[str]:
    """CSS classes of a card, from the verdicts on its arms' pictures."""
    judged = [v for v in verdicts if v is not None]
    if not judged:
        return []
    classes = ["all-right" if all(judged) else "some-wrong"]
    return [*classes, "differs"] if len(set(judged)) > 1 else classes


def filters(names: Sequence[str]) -> Html:
    """Two rows of choices for the section with id `samples`; grid i of `names` has class `g-i`."""
    rules = [
        f"#samples:has(#{key}:checked) .filtered .card:not(.{kept}){{display:none}}"
        for key, (_, kept) in VERDICTS.items()
        if kept
    ]
    rules += [
        f"#samples:has(#c-{i}:checked) .filtered .grid:not(.g-{i}){{display:none}}"
        for i in range(len(names))
    ]
    verdicts = [_choice("verdict", key, label) for key, (label, _) in VERDICTS.items()]
    categories = [_choice("category", "c-all", "all")]
    for i, name in enumerate(names):
        categories.append(_choice("category", f"c-{i}", name.replace("_", " ").replace("/", " · ")))
    rows = [_row("Verdict", verdicts), _row("Category", categories) if len(names) > 1 else None]
    return join([tag("style", Html("\n".join(rules))), *rows])


def _row(title: str, choices: Sequence[Html]) -> Html:
    return tag("fieldset", tag("legend", title), *choices, class_="choices")


def _choice(group: str, key: str, label: str) -> Html:
    box = tag("input", type="radio", name=group, id=key, checked=key.endswith("-all"))
    return tag("label", box, " ", label)
