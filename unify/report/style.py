"""The page's style sheet: one column of text, hairlines, light and dark from one set of names.

The rules stand in page.css; colours and dashes are here, since figures use them too.
"""

from pathlib import Path

ARMS_LIGHT = [
    "#1d5fc2",
    "#c4540a",
    "#137a55",
    "#9c3587",
    "#8a6a00",
    "#6b4fc9",
    "#0a7183",
    "#5b6068",
]
ARMS_DARK = ["#7fb2ff", "#ffa45c", "#5fd3a5", "#f090d0", "#e3c04c", "#b7a4ff", "#62cfdf", "#aab0b8"]
DASHES = ["none", "7 3", "2 2.5", "9 3 2 3", "13 3", "4 4", "9 2 2 2 2 2", "1 4"]


def _names(colours: list[str]) -> str:
    return "".join(f"--arm-{i}:{c};" for i, c in enumerate(colours))


LIGHT = (
    "--page:#fbfbf9;--card:#fff;--ink:#191b1f;--soft:#5d6169;--rule:#e3e3de;--faint:#f3f3ef;"
    "--right:#1a7340;--wrong:#b3261e;--warn:#8a5a00;--warn-back:#fdf3dc;--done-back:#e6f3ea;"
    + _names(ARMS_LIGHT)
)
DARK = (
    "--page:#121417;--card:#191c20;--ink:#e7e7e3;--soft:#9ba1a9;--rule:#2c3137;--faint:#1f2328;"
    "--right:#6fd39a;--wrong:#ff8f86;--warn:#f0c36b;--warn-back:#33290f;--done-back:#15301f;"
    + _names(ARMS_DARK)
)

_MARKS = "".join(
    f".arm-{i}{{--c:var(--arm-{i})}}.line.arm-{i}{{stroke-dasharray:{dash}}}\n"
    for i, dash in enumerate(DASHES)
)
_PAGE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
CSS = f":root{{{LIGHT}}}\n@media (prefers-color-scheme:dark){{:root{{{DARK}}}}}\n{_MARKS}\n{_PAGE}"
