"""The section Samples: every picture with its prompt and verdict, embedded as a data URI.

A grid is `<name>.png`, a sheet, beside `<name>.json` {name, titles, verdicts, boxes, factor}: the
boxes say where on the sheet the pictures are, `factor` by how much they were enlarged.
"""

from __future__ import annotations

import io
import json
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unify.answers.run_records import RunRecord
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.report.html import Html, fold, join, swatch, tag
from unify.report.sample_order import in_order
from unify.report.titles import SHOWN_LETTERS, limited, titled

if TYPE_CHECKING:
    from PIL.Image import Image

MOMENT = re.compile(r"step-(?P<step>\d+)(?:-(?P<name>.+))?")
READING = "Made by the averaged weights with the sampler of the evaluation, and not selected."
UNREADABLE = "The picture could not be read."
ACROSS = 8  # pictures of one moment of training
MOST_PICTURES = 24  # of one grid and arm
FEW = 7  # arms of a card, whose verdicts are written out
MOST_SIDE = 128  # pixels of one embedded picture
MOST_SHEET = 512  # pixels of a whole grid shown as one picture
EXACT_SIDE = 64  # up to here a picture is embedded losslessly

VERDICTS = {  # id -> (label, class that a card must have; empty: any)
    "v-all": ("all", ""),
    "v-wrong": ("some arm wrong", "some-wrong"),
    "v-right": ("every arm right", "all-right"),
    "v-differ": ("arms differ", "differs"),
}


@dataclass
class Picture:
    """One picture of a grid, ready to show."""

    uri: str
    title: str
    verdict: bool | None


@dataclass
class Shown:
    """One grid of one run: its pictures, or the whole sheet where nothing says where they are."""

    run: RunRecord
    name: str
    pictures: list[Picture]
    sheet: str
    titles: list[str]
    verdicts: list[bool | None]


def section(study: StudyRecord, lines: Sequence[Line]) -> Html:
    """Grids of the evaluation, and samples during training folded below."""
    grids, moments = sample_grids(study), training_samples(study)
    if not grids and not moments:
        return tag("p", "No sample grids were written.")
    folded = fold("During training", moments) if moments else None
    return join([tag("p", READING, class_="quiet"), grids, folded])


def sample_grids(study: StudyRecord) -> Html:
    """Every evaluation grid, arms side by side; prompts shared by all arms share a card."""
    by_name: dict[str, list[Shown]] = {}
    for arm in study.arms:
        runs = [run for run in study.runs_of(arm) if run.pictures("eval")]
        for path in runs[0].pictures("eval") if runs else []:
            shown = read_grid(runs[0], path)
            by_name.setdefault(shown.name, []).append(shown)
    names = in_order(by_name, study.primary)
    if not names:
        return Html("")
    blocks = [_block(study, name, by_name[name], f"g-{i}") for i, name in enumerate(names)]
    return join([filters(names), tag("div", *blocks, class_="filtered")])


def read_grid(run: RunRecord, path: Path, most: int = MOST_PICTURES) -> Shown:
    """A grid of a run, cut into its first `most` pictures."""
    about = path.with_suffix(".json")
    info = _about(about)
    titles = [limited(str(t)) for t in _list(info, "titles")]
    verdicts = [v if isinstance(v, bool) else None for v in _list(info, "verdicts")]
    verdicts += [None] * (len(titles) - len(verdicts))
    shown = Shown(run, str(info.get("name") or path.stem), [], "", titles, verdicts)
    sheet = open_image(path)
    if sheet is None:
        return shown
    try:
        factor = int(info.get("factor") or 1)
        cuts = [sheet.crop(box) for box in _list(info, "boxes")[:most]]
        uris = [data_uri(picture, factor) for picture in cuts]
    except (ValueError, TypeError, SystemError):  # the boxes are no boxes
        uris = []
    for uri, title, verdict in zip(uris, titles, verdicts, strict=False):
        shown.pictures.append(Picture(uri, title, verdict))
    if not shown.pictures:
        shown.sheet = data_uri(sheet, most=MOST_SHEET)
    return shown


def _about(path: Path) -> dict[str, Any]:
    """What a grid's JSON says; nothing where it is damaged or gone: the sheet is shown whole."""
    try:
        info = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except (ValueError, RecursionError):
        return {}
    return info if isinstance(info, dict) else {}


def _list(info: dict[str, Any], key: str) -> list[Any]:
    value = info.get(key)
    return value if isinstance(value, list) else []


def open_image(path: Path) -> Image | None:
    """The picture; None if the file is damaged: a killed run may leave half of one."""
    from PIL import Image

    try:
        return Image.open(path).convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return None


def data_uri(image: Image, factor: int = 1, most: int = MOST_SIDE) -> str:
    """A PNG no larger than `most` pixels a side; 256 colours where it is more than a thumbnail.

    An enlargement by `factor` is undone first: the page enlarges again, without the bytes.
    """
    from PIL.Image import Resampling

    if factor > 1:
        size = (image.width // factor, image.height // factor)
        image = image.resize(size, Resampling.NEAREST)
    if max(image.size) > most:
        image.thumbnail((most, most))
    if max(image.size) > EXACT_SIDE:
        image = image.quantize(256)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode()


def _block(study: StudyRecord, name: str, grids: Sequence[Shown], place: str) -> Html:
    """One grid of all arms; `place` is the class by which the filters find it."""
    scores = []
    for grid in grids:
        judged = [v for v in grid.verdicts if v is not None]
        text = f"{sum(judged)} of {len(judged)} right" if judged else "not judged"
        mark = swatch(study.arms.index(grid.run.arm))
        scores.append(tag("li", mark, tag("b", grid.run.arm), f" {text}, seed {grid.run.seed}"))
    first = grids[0]
    shared = len(grids) > 1 and all(g.titles == first.titles and g.pictures for g in grids)
    if shared:
        cards = [
            _card([(g.run.arm, g.pictures[i]) for g in grids], study.arms)
            for i in range(len(first.pictures))
        ]
        body = tag("div", *cards, class_=f"cards of-{len(grids) if len(grids) < FEW else 'many'}")
    else:
        body = join(_one_arm(study, grid, len(grids) > 1) for grid in grids)
    left = max(len(g.titles) for g in grids) - MOST_PICTURES
    more = tag("p", f"The first {MOST_PICTURES}; {left} more in the run folder.", class_="quiet")
    title = tag("h3", name.replace("_", " ").replace("/", " · "))
    key = tag("ul", *scores, class_="key")
    return tag("section", title, key, body, more if left > 0 else None, class_=f"grid {place}")


def _one_arm(study: StudyRecord, grid: Shown, named: bool) -> Html:
    """A grid whose prompts are an arm's own; `named`: under the arm's name."""
    parts: list[Html] = []
    if named:
        parts.append(tag("h4", swatch(study.arms.index(grid.run.arm)), grid.run.arm))
    if grid.pictures:
        cards = [_card([("", picture)], study.arms) for picture in grid.pictures]
        parts.append(tag("div", *cards, class_="cards of-1"))
    elif grid.sheet:
        parts.append(tag("img", src=grid.sheet, alt=f"sample grid {grid.name}", class_="sheet"))
        items = zip(grid.titles, grid.verdicts, strict=True)
        listed = (tag("li", titled("span", title), " ", mark(v)) for title, v in items)
        parts.append(tag("ol", *listed))
    else:
        parts.append(tag("p", UNREADABLE, class_="quiet"))
    return join(parts)


def _card(pictures: Sequence[tuple[str, Picture]], arms: Sequence[str], judge: bool = True) -> Html:
    """One prompt and what each arm made of it."""
    title = pictures[0][1].title
    shots = []
    for arm, picture in pictures:
        told = limited(title, SHOWN_LETTERS)  # the caption has the rest
        alt = f"{arm}: {told}" if arm else told
        image = tag("img", src=picture.uri, alt=alt, title=arm or None)
        who = swatch(arms.index(arm)) if arm else None
        verdict = tag("div", who, mark(picture.verdict), class_="said") if judge else None
        shots.append(tag("div", image, verdict, class_="shot"))
    caption = titled("figcaption", title)
    kinds = ["card", *verdict_classes([picture.verdict for _, picture in pictures])]
    return tag("figure", tag("div", *shots, class_="shots"), caption, class_=" ".join(kinds))


def mark(verdict: bool | None) -> Html:
    """A verdict as a tick, a cross, or the words `not judged`."""
    if verdict is None:
        return tag("span", "not judged", class_="verdict open")
    if verdict:
        return tag("span", "✓", tag("span", " right", class_="word"), class_="verdict right")
    return tag("span", "✗", tag("span", " wrong", class_="word"), class_="verdict wrong")


def training_samples(study: StudyRecord) -> Html:
    """Up to four moments of each arm's first run: the first, the last and two between."""
    parts: list[Html] = []
    for run in (study.runs_of(arm)[0] for arm in study.arms if study.runs_of(arm)):
        by_name: dict[str, list[tuple[int, Path]]] = {}
        for path in run.pictures("samples"):
            if match := MOMENT.fullmatch(path.stem):
                by_name.setdefault(match["name"] or "samples", []).append(
                    (int(match["step"]), path)
                )
        for name, moments in by_name.items():
            chosen = sorted({round(i * (len(moments) - 1) / 3) for i in range(4)})
            rows = [(moments[i][0], read_grid(run, moments[i][1], ACROSS)) for i in chosen]
            title = f"{run.arm}, seed {run.seed}: {name.replace('_', ' ')}"
            parts.append(tag("h4", swatch(study.arms.index(run.arm)), title))
            parts += [_moment(step, shown) for step, shown in rows]
    return join(parts)


def _moment(step: int, shown: Shown) -> Html:
    """A row of samples at one optimizer step."""
    if shown.pictures:
        cards = [_card([("", picture)], [], judge=False) for picture in shown.pictures]
        content = tag("div", *cards, class_="cards of-1 strip")
    elif shown.sheet:
        content = tag("img", src=shown.sheet, alt=f"samples at step {step}", class_="sheet")
    else:
        content = tag("p", UNREADABLE, class_="quiet")
    return tag("div", tag("p", f"step {step:,}", class_="quiet"), content, class_="moment")


def verdict_classes(verdicts: Sequence[bool | None]) -> list[str]:
    """CSS classes of a card, from the verdicts on its arms' pictures."""
    judged = [v for v in verdicts if v is not None]
    if not judged:
        return []
    classes = ["all-right" if all(judged) else "some-wrong"]
    return [*classes, "differs"] if len(set(judged)) > 1 else classes


def filters(names: Sequence[str]) -> Html:
    """Filters by category and by verdict: radio buttons and styles, no script.

    For the section with id `samples`; grid i of `names` has class `g-i`.
    """
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
