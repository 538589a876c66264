"""`unify demo`: a picture, what it should show and what is read in it, from nothing."""

import json

from PIL import Image

from unify.commands.demo import demo

SMALL = ["steps=1", "model.trunk.dim=32", "model.trunk.depth=1", "data.tasks.text_to_image=2"]


def test_the_first_picture_comes_with_what_was_asked_and_read(tmp_path, capsys):
    out, words = tmp_path / "first.png", [*SMALL, f"machine.runs={tmp_path}"]
    assert demo(words, None, out, 0) == 0
    said = capsys.readouterr().out
    assert said.count("asked: ") == said.count(" read: ") == 8
    assert f"{out}: 0 of 8 read as asked" in said
    assert Image.open(out).size[0] > 32
    assert len(json.loads(out.with_suffix(".json").read_text())["verdicts"]) == 8
    assert demo(words, ["a red circle at the top left"], out, 0) == 0  # trained once
    said = capsys.readouterr().out
    assert "trained already" in said
    assert "asked: a red circle at the top left" in said
