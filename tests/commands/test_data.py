"""`unify data` as a user meets it."""

import json
import signal

import pytest
from command_line import unify
from odd_shards import CAPTIONS, write_odd_shards

from unify.commands.app import app
from unify.data.shards import Shards
from unify.support.stop_protocol import Interrupted
from unify.tokenizers.text import BPE


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


def described(*words):
    with pytest.raises(SystemExit) as ended:
        app(["data", "describe", *map(str, words)])
    return ended.value.code


def test_describe_writes_a_page_and_says_what_is_worth_a_look(tmp_path, monkeypatch, capsys):
    folder = write_odd_shards(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert described(folder, "--tokenizer", "bytes") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "mine: 10 records; 4 bad"
    assert out.splitlines()[-1] == "page: mine.html"
    assert "tokens (bytes)" in out
    assert "4 bad records are left out." in out
    assert "reading 10 of them" in err
    assert "</html>" in (tmp_path / "mine.html").read_text()


def test_describe_prints_json_and_then_writes_no_page(tmp_path, monkeypatch, capsys):
    folder = write_odd_shards(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert described(folder, "--json", "--sample", 3) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["records"], told["sample"]) == ("mine", 10, 3)
    assert told["fingerprint"] == Shards(str(folder)).fingerprint()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"]


def test_describe_reads_the_source_and_shares_of_a_yaml(tmp_path, capsys):
    folder = write_odd_shards(tmp_path / "mine")
    file = tmp_path / "mine.yaml"
    file.write_text(
        "data:\n  class: unify.data.module.Data\n  tasks: {caption: 2}\n"
        f"  source: {{class: unify.data.shards.Shards, path: {folder}, validation: 0.9}}\n"
    )
    assert described(file, "--json") == 0
    shares = json.loads(capsys.readouterr().out)["counts"]["caption"]
    assert shares["validation"] > shares["train"]
    (tmp_path / "none.yaml").write_text("steps: 3\n")
    with pytest.raises(ValueError, match="has no `data`"):
        described(tmp_path / "none.yaml")


def test_describe_counts_the_tokens_of_a_vocabulary(tmp_path, capsys):
    folder, bpe = write_odd_shards(tmp_path / "mine"), BPE(300)
    bpe.fit(["two dogs run in the park"] * 3)
    bpe.save(tmp_path)
    assert described(folder, "--json", "--tokenizer", tmp_path) == 0
    found = json.loads(capsys.readouterr().out)
    lengths = [len(ids) for ids in bpe.bare_ids([*CAPTIONS.values()])]
    tokens = found["texts"]["caption"]["tokens"]
    assert (tokens["least"], tokens["most"]) == (min(lengths), max(lengths))
    assert found["tokenizer"].startswith(f"{tmp_path.name}/tokenizer.json, SHA-256 ")
    with pytest.raises(ValueError, match="give `bytes`, a tokenizer"):
        described(folder, "--tokenizer", tmp_path / "none")
