"""Pictures with captions from wherever they are -> indexed tar shards.

    folder    images with a caption beside each: a.jpg, a.txt (and a.json for questions)
    CSV       columns for the image file and the caption (comma or tab), files beside the CSV
    JSONL     the same as one object per line; questions as in verdicts.py
    tar       one tar, or a folder of them: img2dataset and open_clip shards

An edit has a source image too: a.source.jpg beside a.jpg, or a column `source_image`.

Nothing is downloaded, unpacked to disk or executed; the image bytes are copied as they are. Bad
inputs are left out and get a verdict each in `verdicts.jsonl`.
"""

import csv
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unify.data.adapters.index import Report, check, index_folder
from unify.data.adapters.tar import SOURCE, TEXTS, read_parts, samples, split_name
from unify.data.adapters.verdicts import MAX_TEXT, Bad, Verdict, judge

__all__ = ["check", "import_images", "write_shards"]

IMAGE_COLUMNS = ("image", "file", "file_name", "filename", "filepath", "path", "image_path")
TEXT_COLUMNS = ("caption", "text", "title", "prompt")
SOURCE_COLUMN = "source_image"
PER_SHARD, SHARD_BYTES = 10_000, 512_000_000


@dataclass
class Input:
    """One sample to import: its parts (PARTS of tar.py), or the reason why it has none."""

    origin: str  # file or line that it comes from, for verdicts
    key: str
    parts: dict[str, bytes]
    bad: Bad | None = None


def import_images(
    source: str | Path,
    out: str | Path,
    image: str = "",
    text: str = "",
    per_shard: int = PER_SHARD,
    shard_bytes: int = SHARD_BYTES,
) -> Report:
    """Write `source` (see above) as shards and index into the folder `out`.

    Args:
        image, text: columns of a CSV or JSONL, where their names are not the usual ones.
        per_shard: most records of a shard.
        shard_bytes: size at which a shard is closed.

    ValueError if the source is of no known kind or `out` is not empty; nothing is left behind on an
    error.
    """
    source = Path(source)
    return write_shards(_inputs(source, image, text), out, per_shard, shard_bytes)


def write_shards(
    inputs: Iterator[Input | Verdict],
    out: str | Path,
    per_shard: int = PER_SHARD,
    shard_bytes: int = SHARD_BYTES,
) -> Report:
    """Write `out/shard-000000.tar` ... and the index: all of it, or nothing on an error.

    Args:
        inputs: samples, and verdicts on what was none.
        per_shard, shard_bytes: records and bytes at which a shard is closed.

    ValueError if `out` is not empty, or no input is usable.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty; choose another folder, or remove it")
    partial = out.with_name(f".{out.name}.partial")  # beside `out`, so that the rename is atomic
    shutil.rmtree(partial, ignore_errors=True)  # what an import that was killed left
    partial.mkdir(parents=True)
    try:
        verdicts: list[Verdict] = []
        good = _judged(inputs, verdicts)
        if not _write(good, partial, per_shard, shard_bytes):
            reasons = ", ".join(f"{r}: {n}" for r, n in Counter(v.reason for v in verdicts).items())
            raise ValueError(f"no usable image was found to write to {out} ({reasons or 'none'})")
        report = index_folder(partial, pixels=False, earlier=verdicts)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    report.folder = str(out)
    return report


def _judged(inputs: Iterator[Input | Verdict], verdicts: list[Verdict]) -> Iterator[Input]:
    """Yield the good inputs under unique keys; append a verdict on each of the others."""
    keys: Counter[str] = Counter()
    for item in inputs:
        if isinstance(item, Verdict):
            verdicts.append(item)
            continue
        try:
            if item.bad:
                raise item.bad
            judge(item.parts)
        except Bad as bad:
            verdicts.append(Verdict(item.origin, item.key, bad.reason, bad.detail))
            continue
        # In the webdataset layout a key ends at its first dot, and a ustar name holds 100 bytes,
        # extension included. Two names may become one key: the later gets a number.
        key = re.sub(r"[^A-Za-z0-9_-]+", "_", item.key).strip("_")[-80:] or "image"
        keys[key] += 1
        while keys[key] > 1:
            key = f"{key}_{keys[key]}"
            keys[key] += 1
        yield Input(item.origin, key, item.parts)


EXTENSIONS = ((b"\xff\xd8", "jpg"), (b"\x89PNG", "png"), (b"RIFF", "webp"))


def _write(inputs: Iterator[Input], folder: Path, per_shard: int, shard_bytes: int) -> int:
    """Write shards of at most `per_shard` records and about `shard_bytes`; returns the records."""
    from webdataset import TarWriter

    total = 0
    item = next(inputs, None)
    shard = 0
    while item:
        with (folder / f"shard-{shard:06d}.tar").open("wb") as file:
            with TarWriter(file, encoder=False, mtime=0) as writer:
                count = size = 0
                while item and count < per_shard and size < shard_bytes:
                    parts = dict(item.parts)
                    for part, name in (("image", ""), ("source", f"{SOURCE[1:]}.")):
                        if image := parts.pop(part, None):
                            parts[name + _extension(image)] = image
                    size += writer.write({"__key__": item.key, **parts})
                    count += 1
                    item = next(inputs, None)
            file.flush()
            os.fsync(file.fileno())
        total, shard = total + count, shard + 1
    return total


def _extension(image: bytes) -> str:
    return next(name for magic, name in EXTENSIONS if image.startswith(magic))


# The kinds of sources


def _inputs(source: Path, image: str, text: str) -> Iterator[Input | Verdict]:
    if source.is_dir():
        tars = sorted(source.glob("*.tar"))
        return _from_tars(tars) if tars else _from_folder(source)
    if not source.is_file():
        raise ValueError(f"{source} does not exist")
    if source.suffix.lower() == ".tar":
        return _from_tars([source])
    if source.suffix.lower() in (".csv", ".tsv"):
        return _from_table(source, _csv_rows(source), image, text)
    if source.suffix.lower() in (".jsonl", ".ndjson"):
        return _from_table(source, _jsonl_rows(source), image, text)
    raise ValueError(
        f"{source} is none of: a folder of images or of tars, a .tar, a .csv or .tsv, a .jsonl"
    )


def _from_folder(folder: Path) -> Iterator[Input | Verdict]:
    paths = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
    named = [(name, *split_name(name)) for name, path in paths.items() if path.suffix]
    edited = {key for _, key, part in named if part == "image"}
    sources: dict[str, Path] = {}
    for name, key, part in named:
        if part == "source" and (key in sources or key not in edited):
            yield Verdict(name, key, "duplicate_key" if key in sources else "missing_image")
        elif part == "source":
            sources[key] = paths[name]
    for name, key, part in named:
        if part != "image" or paths[name].is_dir():
            continue
        parts = {"image": paths[name]} | {t: paths[name].with_suffix(f".{t}") for t in TEXTS}
        yield _read(name, key, parts | ({"source": sources[key]} if key in sources else {}))


def _read(origin: str, key: str, paths: dict[str, Path], **parts: bytes) -> Input:
    """Read the files of one sample: a missing image is a fault, a missing text is judged later."""
    try:
        for part, path in paths.items():
            if part not in TEXTS or path.is_file():
                with path.open("rb") as file:
                    parts[part] = file.read(MAX_TEXT + 1) if part in TEXTS else file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return Input(origin, key, {}, Bad(f"missing_{part}", str(error)))
    return Input(origin, key, parts)


def _from_tars(paths: list[Path]) -> Iterator[Input | Verdict]:
    for path in paths:
        good, verdicts = samples(path)
        yield from verdicts
        with path.open("rb") as file:
            for sample in good:
                parts = read_parts(file.fileno(), sample)
                yield Input(path.name, sample.key, parts)


Row = dict[str, Any] | Bad
QUESTIONS: tuple[str, ...] = ("question", "answer", "turns", "kind")


def _from_table(source: Path, rows: Iterator[Row], image: str, text: str) -> Iterator[Input]:
    """Rows of a CSV or JSONL; image files are named relative to the table's folder."""
    for number, row in enumerate(rows, 1):
        origin = f"{source.name}:{number}"
        if isinstance(row, Bad):
            yield Input(origin, "", {}, row)
            continue
        file = _column(row, image, IMAGE_COLUMNS, source)
        if not isinstance(file, str) or not file:
            yield Input(origin, "", {}, Bad("missing_image", "no file is named"))
            continue
        meta = {name: row[name] for name in QUESTIONS if name in row}
        kinds = ("instruction", *TEXT_COLUMNS) if SOURCE_COLUMN in row else TEXT_COLUMNS
        caption = _column(row, text, kinds, source, needed=not meta)
        parts: dict[str, bytes] = {}
        if isinstance(caption, str):
            parts = {"txt": caption.encode("utf-8", "surrogatepass")}
        else:  # judged as that of a json would be: absent, or not a text
            meta |= {"instruction" if SOURCE_COLUMN in row else "caption": caption}
        if meta:
            parts["json"] = json.dumps(meta).encode()
        key = str(Path(file).with_suffix("")).lstrip("./")
        files = {"image": source.parent / file}
        if SOURCE_COLUMN in row:
            files["source"] = source.parent / str(row[SOURCE_COLUMN] or "")
        yield _read(origin, key, files, **parts)


def _column(
    row: dict[str, Any], chosen: str, usual: tuple[str, ...], source: Path, needed: bool = True
) -> Any:
    """The value of the chosen column, or of the first usual one that the row has."""
    for name in (chosen,) if chosen else usual:
        if name in row:
            return row[name]
    if not needed:
        return None
    raise ValueError(
        f"{source} has no column {chosen or ' or '.join(usual)}; it has {', '.join(row)}. "
        "Name the right one with --image or --text"
    )


def _csv_rows(source: Path) -> Iterator[Row]:
    with source.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        header = file.readline()
        file.seek(0)
        delimiter = "\t" if "\t" in header else ","
        csv.field_size_limit(1 << 30)
        for row in csv.DictReader(file, delimiter=delimiter):
            yield {name: value for name, value in row.items() if name is not None}


def _jsonl_rows(source: Path) -> Iterator[Row]:
    with source.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                yield row if isinstance(row, dict) else Bad("bad_json", "not an object")
            except ValueError as error:
                yield Bad("bad_json", str(error))
