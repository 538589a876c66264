"""Paradigm cards on the page."""

import base64
import io

from PIL import Image

from unify.report.paradigm_cards import INK, PAPER, _mask


def test_the_picture_has_a_pixel_for_each_query_and_key():
    html = _mask("trunk", {"tokens": "tb-", "rows": ["4", "6", "1"]})
    data = html.split("base64,")[1].split('"')[0]
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    pixels = [[image.getpixel((x, y)) for x in range(3)] for y in range(3)]
    assert pixels == [
        [INK["t"], PAPER, PAPER],
        [INK["t"], INK["b"], PAPER],
        [PAPER, PAPER, INK["-"]],
    ]
    assert "1 causal, 1 both ways, 1 padding" in html
