"""`unify data` as a user meets it."""

import signal

import pytest
from command_line import unify

from unify.commands.app import app
from unify.support.stop_protocol import Interrupted


@pytest.fixture(scope="module")
def emoji_like(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    for index in range(6):
        Image.new("RGB", (20, 20), (40 * index, 0, 0)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"red number {index}")
    (folder / "6.png").write_bytes(b"not a picture")
    (folder / "6.txt").write_text("broken")
    return folder


def test_import_says_what_it_left_out_and_check_finds_damage(emoji_like, tmp_path):
    out = tmp_path / "shards"
    done = unify("data", "import", emoji_like, out)
    assert done.returncode == 0, done.stderr
    assert "6" in done.stdout
    assert unify("data", "check", out).returncode == 0
    tar = next(out.glob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[700] ^= 255
    tar.write_bytes(bytes(data))
    assert unify("data", "check", out).returncode == 1
    assert unify("data", "check", out, "--repair").returncode == 0
    assert unify("data", "check", out).returncode == 0


def test_an_import_that_is_stopped_says_what_is_kept(tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr("unify.data.adapters.importer.import_images", stopped)
    words = ["data", "import", str(tmp_path), str(tmp_path / "out")]
    with pytest.raises(Interrupted, match=r"the shards of .*/out that are finished are kept"):
        app(words, standalone_mode=False)
