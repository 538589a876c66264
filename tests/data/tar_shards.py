"""Pictures, samples and tar shards that tests write, and what an index says of them."""

import io
import json
import tarfile

import numpy as np
from PIL import Image

from unify.data.adapters.columns import write_columns
from unify.data.adapters.stored import digest
from unify.support.atomic_files import sha256


def picture(n=0, kind="JPEG", size=(20, 16), **options):
    pixels = np.random.default_rng(n).integers(0, 256, (2, 2, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(file, kind, **options)
    return file.getvalue()


def tar(path, members, format=tarfile.USTAR_FORMAT):
    """`members`: (name, bytes), or a TarInfo for what is not a plain file."""
    with tarfile.open(path, "w", format=format) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def pairs(n, start=0, **options):
    out = []
    for i in range(start, start + n):
        out += [(f"{i:05d}.jpg", picture(i, **options)), (f"{i:05d}.txt", f"text {i}".encode())]
    return out


def verdicts(folder):
    lines = (folder / "verdicts.jsonl").read_text().splitlines()
    return [(v["key"], v["reason"]) for v in map(json.loads, lines)]


def captions(folder):
    lines = (folder / "records.jsonl").read_text().splitlines()
    return [json.loads(line).get("text") for line in lines]


def origins(folder):
    """Where each record came from, by key, in all imports below a folder."""
    lines = [line for path in folder.rglob("origins.jsonl") for line in path.open()]
    return {row["key"]: row["origin"] for row in map(json.loads, lines)}


def make_older(folder, without=("crc",)):
    """The index as it was before it had digests of its columns and of itself."""
    with np.load(folder / "columns.npz") as columns:
        older = {name: columns[name] for name in columns if name not in without}
    np.savez(folder / "columns.npz", **older)
    summary = json.loads((folder / "index.json").read_bytes())
    del summary["columns"], summary["digest"]
    (folder / "index.json").write_text(json.dumps(summary | {"format": "unify-shards-1"}))
    return older


def fit_index(folder):
    """Make columns and digests fit a records.jsonl that was changed, as a stranger would."""
    write_columns(folder / "columns.npz", folder / "records.jsonl", lambda row: None)
    summary = json.loads((folder / "index.json").read_bytes())
    summary["sha256"] = sha256(folder / "records.jsonl")
    summary["columns"] = {"sha256": sha256(folder / "columns.npz")}
    summary["digest"] = digest(summary)
    (folder / "index.json").write_text(json.dumps(summary))


def edits(n):
    """Triples of a source, an instruction and what it made."""
    out = []
    for i in range(n):
        out += [(f"{i}.png", picture(i, "PNG")), (f"{i}.source.jpg", picture(100 + i // 2))]
        out += [(f"{i}.txt", f"do {i}".encode())]
    return out
