"""Picture grids: a PNG to look at, with a title and a verdict per picture, and a JSON beside it.

B pictures of H x W pixels.
"""

import importlib.util
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from unify.data.source import to_uint8
from unify.metrics.metric import Grid
from unify.support.atomic_files import write_together

SIDE = 112  # pixels that a small picture is enlarged to, about
COLUMNS = 8
GAP = 12
TITLE_LINES = 4  # at most; a longer title ends in an ellipsis
FONT_SIZE = 12
LINE = FONT_SIZE + 3  # pixels from one line of a title to the next
MARK = 14  # width that a verdict takes before the title
INK, PAPER, EDGE = (40, 40, 40), (255, 255, 255), (210, 210, 210)
GOOD, BAD = (26, 140, 60), (200, 40, 40)
MAKER = ("Software", "unify")  # text in every sheet, by which it is known again


def save_grid(grid: Grid, path: Path) -> None:
    """Write `path` (PNG) and the same name with `.json`, both whole or not at all."""
    sheet, places = draw_grid(grid)
    packed, maker = io.BytesIO(), PngInfo()
    maker.add_text(*MAKER)
    sheet.save(packed, "PNG", optimize=True, pnginfo=maker)
    facts = {"name": grid.name, "titles": grid.titles, "verdicts": grid.verdicts, **places}
    about = json.dumps(facts, ensure_ascii=False, indent=1)
    write_together({path: packed.getvalue(), path.with_suffix(".json"): about})


def free_grid(path: Path) -> Path:
    """The path, or the first of `<name>-2.png` and so on where nothing is yet."""
    number, free = 1, path
    while free.exists() or free.with_suffix(".json").exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


def check_own_grid(path: Path) -> None:
    """ValueError where `save_grid` would replace a file that it has not written."""
    about = path.with_suffix(".json")
    if path.suffix == about.suffix:
        raise ValueError(f"{path}: {about.suffix} is for what is said of a picture; end in .png")
    for own, is_ours in ((path, _is_grid(path)), (about, _is_about(about))):
        if own.exists() and not is_ours:
            raise ValueError(f"{own} is there, and unify did not draw it; give another --out")


def _is_grid(path: Path) -> bool:
    key, value = MAKER
    try:
        with Image.open(path) as image:
            return getattr(image, "text", {}).get(key) == value
    except Exception:  # whatever a decoder raises, it is no picture of ours
        return False


def _is_about(path: Path) -> bool:
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and {"name", "titles", "boxes", "factor"} <= facts.keys()


def draw_grid(grid: Grid) -> tuple[Image.Image, dict[str, Any]]:
    """Draw pictures in rows of up to 8, each above its title, a tick or a cross for its verdict.

    Returns the sheet, and where the pictures are on it, so that a report can cut them out again:
    `boxes` (left, upper, right, lower) and the `factor` by which they are enlarged.
    """
    count, _, height, width = grid.images.shape
    factor = max(1, round(SIDE / max(height, width)))
    wide, high = width * factor, height * factor  # of a picture on the sheet
    cell = max(wide, SIDE)  # a title may be wider than its picture
    marks = [0 if verdict is None else MARK for verdict in grid.verdicts]
    titles = [_wrap(t, cell - mark) for t, mark in zip(grid.titles, marks, strict=True)]
    columns = min(COLUMNS, count)
    rows = [titles[start : start + columns] for start in range(0, count, columns)]
    heights = [high + 4 + LINE * max(map(len, row)) + GAP for row in rows]
    sheet = Image.new("RGB", (columns * (cell + GAP) + GAP, sum(heights) + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    boxes = []
    for index in range(count):
        row, column = divmod(index, columns)
        x, y = GAP + column * (cell + GAP), GAP + sum(heights[:row])
        picture = Image.fromarray(to_uint8(grid.images[index]))
        sheet.paste(picture.resize((wide, high), Image.Resampling.NEAREST), (x, y))
        draw.rectangle((x - 1, y - 1, x + wide, y + high), outline=EDGE)
        boxes.append((x, y, x + wide, y + high))
        _draw_verdict(draw, x, y + high + 4, grid.verdicts[index])
        text = "\n".join(titles[index])
        draw.multiline_text(
            (x + marks[index], y + high + 4), text, fill=INK, font=_font(), spacing=3
        )
    return sheet, {"boxes": boxes, "factor": factor}


def _draw_verdict(draw: ImageDraw.ImageDraw, x: int, y: int, good: bool | None) -> None:
    """A tick or a cross with its upper left corner at (x, y); nothing without a verdict."""
    if good is None:
        return
    if good:
        draw.line([(x, y + 8), (x + 4, y + 12), (x + 10, y + 3)], fill=GOOD, width=3, joint="curve")
    else:
        draw.line([(x + 1, y + 4), (x + 9, y + 12)], fill=BAD, width=3)
        draw.line([(x + 1, y + 12), (x + 9, y + 4)], fill=BAD, width=3)


def _wrap(title: str, width: int) -> list[str]:
    """The title in lines of at most `width` pixels; a word that is too long for one is broken."""
    lines = [""]
    for word in title.split():
        while word:
            joined = f"{lines[-1]} {word}".strip()
            if _font().getlength(joined) <= width:
                lines[-1], word = joined, ""
            elif lines[-1]:
                lines.append("")
            else:
                fits = max(n for n in range(1, len(word) + 1) if n == 1 or _fits(word[:n], width))
                lines[-1:], word = [word[:fits], ""], word[fits:]
    lines = [line for line in lines if line]
    if len(lines) <= TITLE_LINES:
        return lines
    last = lines[TITLE_LINES - 1]
    while not _fits(last + "…", width):
        last = last[:-1]
    return [*lines[: TITLE_LINES - 1], last + "…"]


def _fits(text: str, width: int) -> bool:
    return _font().getlength(text) <= width


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which has most scripts, from matplotlib's data; else Pillow's own font."""
    matplotlib = importlib.util.find_spec("matplotlib")  # not imported, which is slow
    if matplotlib is not None and matplotlib.origin is not None:
        path = Path(matplotlib.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
        if path.exists():
            return ImageFont.truetype(str(path), FONT_SIZE)
    return ImageFont.load_default(FONT_SIZE)
