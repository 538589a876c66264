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


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [1400, 420])
def test_report_is_drawn_with_its_pictures(tmp_path, width):
    page = write_report(write_study(tmp_path / "runs" / "browser"))
    shot = tmp_path / "page.png"
    subprocess.run(
        [
            *(BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}"),
            *(f"--screenshot={shot}", f"--window-size={width},9000", page.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    drawn = Image.open(shot).convert("RGB")
    assert drawn.size == (width, 9000)
    colours = {colour for _, colour in drawn.getcolors(maxcolors=1 << 24)}
    # the sample pictures' own pure red and blue: no part of the page's style
    for channel in (0, 2):
        assert any(c[channel] > 200 and sum(c) - c[channel] < 150 for c in colours)
    right_edge = drawn.crop((width - 2, 0, width, 9000)).getcolors(maxcolors=1 << 24)
    assert max(count for count, _ in right_edge) > 9000, "nothing runs over the right edge"
