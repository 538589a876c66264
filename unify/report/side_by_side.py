"""Paradigms side by side: a table in Markdown, and their masks as one SVG picture."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from unify.answers.words import si
from unify.evaluation.side_by_side import Facts
from unify.nn.masks import Mask
from unify.report.html import Html, Node, join, tag
from unify.report.paradigm_cards import INK, NAMES, PAPER

COLUMNS = (
    *("a picture is", "bits a token", "tokens of a row", "passes to draw", "FLOPs to draw"),
    *("FLOPs to read", "parameters", "likelihood of a text", "cannot"),
)
SIDE, GAP, ACROSS, CAPTION = 170, 20, 5, 34  # pixels of a mask, between two; masks in a row


def markdown(facts: Sequence[Facts]) -> str:
    """Objectives, then one row of numbers for each experiment."""
    return "\n\n".join([_table(["experiment", "what", "loss"], map(_loss, facts)), _numbers(facts)])


def _loss(fact: Facts) -> list[str]:
    return [f"`{fact.name}`", fact.title, f"`{fact.objective}`" if fact.objective else ""]


def _numbers(facts: Sequence[Facts]) -> str:
    rows = [
        [
            f"`{fact.name}`",
            fact.image or "none",
            fact.bits,
            _or_none(fact.tokens),
            ", ".join(f"{count} `{name}`" for name, count in fact.passes.items()) or "none",
            "none" if fact.drawn is None else si(fact.drawn),
            "none" if fact.read is None else si(fact.read),
            si(fact.parameters)
            + ("" if fact.trained == fact.parameters else f", {si(fact.trained)} trained"),
            fact.text_terms,
            ", ".join(name.replace("_", " ") for name in fact.cannot) or "nothing of these",
        ]
        for fact in facts
    ]
    return _table(["experiment", *COLUMNS], rows)


def _or_none(value: int | None) -> str:
    return "none" if value is None else str(value)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    cells = ((cell.replace("|", "\\|") for cell in line) for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def svg(facts: Sequence[Facts]) -> str:
    """The mask of each backbone in the first row of `text_to_image`: a row of a square is a token
    that reads, a column one that is read, in the colour of its kind."""
    masks = [(fact.name, *each) for fact in facts for each in fact.masks.items()]
    across, down = SIDE + GAP, SIDE + GAP + CAPTION
    squares = [
        tag("g", *_square(*each), transform=f"translate({x * across} {y * down})")
        for (y, x), each in ((divmod(place, ACROSS), each) for place, each in enumerate(masks))
    ]
    width, bottom = ACROSS * across + GAP, -(-len(masks) // ACROSS) * down
    height = bottom + 2 * GAP
    return tag(
        "svg",
        tag("title", "Who reads whom while a picture is learned from its prompt"),
        tag("style", _style()),
        tag("rect", width=width, height=height, fill="white"),
        tag("g", join(squares, "\n"), _legend(bottom), transform=f"translate({GAP} {GAP})"),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
    )


def _legend(y: int) -> Html:
    parts: list[Node] = []
    for place, letter in enumerate(INK):
        x = place * (SIDE + GAP)
        parts += [
            tag("rect", x=x, y=y, width=12, height=12, class_=_kind(letter)),
            tag("text", f"reads a token: {NAMES[letter]}", x=x + 18, y=y + 11),
        ]
    return join(parts)


def _style() -> str:
    inks = "".join(f".{_kind(k)}{{fill:rgb{rgb}}}" for k, rgb in INK.items())
    return (
        f"text{{font-family:sans-serif;font-size:12px;fill:#1f2933}}.paper{{fill:rgb{PAPER}}}{inks}"
    )


def _kind(letter: str) -> str:
    return NAMES[letter].split()[0]


def _square(experiment: str, backbone: str, mask: Mask) -> list[Html]:
    """Paper, a path for each kind of token that is read, and a caption of two lines."""
    letters, paths = mask.letters(), dict.fromkeys(INK, "")
    for y, reads in enumerate(mask.dense()[0, 0].tolist()):
        x = 0
        kinds = (kind if read else "" for kind, read in zip(letters, reads, strict=True))
        for letter, run in groupby(kinds):
            width = len(list(run))
            if letter:
                paths[letter] += f"M{x} {y}h{width}v1h-{width}z"
            x += width
    inked = [tag("path", d=path, class_=_kind(key)) for key, path in paths.items() if path]
    return [
        tag("rect", width=SIDE, height=SIDE, class_="paper"),
        tag("g", *inked, transform=f"scale({SIDE / mask.keys:.4g})"),
        tag("text", experiment, y=SIDE + 15, font_weight="bold"),
        tag("text", backbone, y=SIDE + 29),
    ]
