"""The report in a real browser: headless Chromium draws it from disk, pictures included."""

import shutil
import subprocess

import pytest
from PIL import Image
from report_study import write_study

from unify.report.page import write_report

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


def photograph(page, shot, width, height=9000):
    profile = shot.with_suffix(".profile")
    subprocess.run(
        [
            *(BROWSER, *QUIET, f"--user-data-dir={profile}"),
            *(f"--screenshot={shot}", f"--window-size={width},{height}", page.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return Image.open(shot).convert("RGB")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 420])
def test_report_is_drawn_with_its_pictures(tmp_path, width):
    page = write_report(write_study(tmp_path / "runs" / "browser"))
    drawn = photograph(page, tmp_path / "page.png", width)
    assert drawn.size == (width, 9000)
    colours = {colour for _, colour in drawn.getcolors(maxcolors=1 << 24)}
    # the sample pictures' own pure red and blue: no part of the page's style
    for channel in (0, 2):
        assert any(c[channel] > 200 and sum(c) - c[channel] < 150 for c in colours)
    right_edge = drawn.crop((width - 2, 0, width, 9000)).getcolors(maxcolors=1 << 24)
    assert max(count for count, _ in right_edge) > 9000, "nothing runs over the right edge"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "wrong"),
    [("v-right", False), *((choice, True) for choice in ("v-all", "v-wrong", "v-differ", "c-1"))],
)
def test_the_gallery_shows_what_is_chosen(tmp_path, choice, wrong):
    """Wrong pictures are black discs in this study, and most right ones have red discs."""
    page = write_report(write_study(tmp_path / "runs" / "browser"))
    text, all_of_it = page.read_text(), f"{choice[0]}-all"
    text = text.replace(f' id="{all_of_it}" checked', f' id="{all_of_it}"')
    text = text.replace(f' id="{choice}"', f' id="{choice}" checked')
    start = text.index('<section id="samples">')
    head = text[: text.index("<body>")]
    page.write_text(f"{head}<body><main>{text[start : text.index('</section></main>')]}</main>")
    drawn = photograph(page, tmp_path / "page.png", 1400, 3000)
    counts = {colour: count for count, colour in drawn.getcolors(maxcolors=1 << 24)}
    assert (counts.get((0, 0, 0), 0) > 500) == wrong
    assert (counts.get((255, 0, 0), 0) > 10_000) == (choice in ("v-all", "v-right"))
