"""The kinds of sources, and the samples of each in an order that is always the same.

    folder      images with a caption beside each: a.jpg, a.txt (and a.json for questions); or tars,
                or Parquet tables, in it and in folders below
    CSV, TSV    columns for the image file and the caption, files beside the table
    JSON lines  the same as one object per line; questions as in verdicts.py
    Parquet     the same, or the images themselves (img2dataset, Hugging Face)
    tar         img2dataset and open_clip shards

An edit has a source image too: a.source.jpg beside a.jpg, or a column `source_image`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unify.data.adapters.folder import Listing, facts
from unify.data.adapters.inputs import Input, Note
from unify.data.adapters.parquet_tables import from_parquet
from unify.data.adapters.tables import TableOptions, from_csv, from_json_lines
from unify.data.adapters.tar import samples
from unify.data.adapters.verdicts import Verdict

Items = Iterator[Input | Verdict | Note]
CSV, JSON_LINES, TAR, PARQUET = (".csv", ".tsv"), (".jsonl", ".ndjson"), (".tar",), (".parquet",)


def opened(
    source: Path, options: TableOptions, ignored: Path | None = None
) -> tuple[Items, list[Any]]:
    """Samples of a source, and what tells whether it is still the same when an import goes on.

    `ignored` is a folder that may lie in the source and is none of it. ValueError if the source is
    missing or of no known kind.
    """
    if source.is_dir():
        return _from_folder(source, options, ignored)
    kind = source.suffix.lower()
    if not source.exists():
        raise ValueError(f"{source} does not exist")
    if kind not in (*CSV, *JSON_LINES, *TAR, *PARQUET):
        raise ValueError(
            f"{source} is none of: a folder of images, of tars or of Parquet tables, a .tar, "
            "a .csv or .tsv, a .jsonl, a .parquet"
        )
    if not source.is_file():
        raise ValueError(f"{source} is no plain file: a pipe or a device cannot be read again")
    if kind in TAR:
        return _from_tar(source, source.name), facts(source)
    read = from_csv if kind in CSV else from_json_lines if kind in JSON_LINES else from_parquet
    return read(source, options), facts(source)


def _from_folder(
    folder: Path, options: TableOptions, ignored: Path | None
) -> tuple[Items, list[Any]]:
    listing = Listing(folder, ignored)
    counts = {kind: listing.count(kind) for kind in ("image", "source", "tar", "parquet")}
    at_the_top = [name for name in listing.names("tar") if "/" not in name]
    if at_the_top or (counts["tar"] and not counts["image"]):
        kind = "tar"
    elif counts["parquet"] and not counts["image"]:
        kind = "parquet"
    else:
        kind = "image"
    files = [] if kind == "image" else list(listing.names(kind))
    state = [listing.digest, *([] if kind == "image" else [facts(folder / name) for name in files])]
    return _folder_items(listing, kind, files, options), state


def _folder_items(listing: Listing, kind: str, files: list[str], options: TableOptions) -> Items:
    yield from listing.verdicts()
    skipped = dict(listing.extensions)
    for other in ("tar", "parquet") if kind == "image" else ("image", "source", "txt", "json"):
        if count := listing.count(other):
            skipped[f".{other}" if kind == "image" else f"{other} beside .{kind}"] = count
    if kind == "tar" and listing.count("parquet"):
        skipped[".parquet"] = listing.count("parquet")
    if skipped:
        told = ", ".join(f"{name} {count:,}" for name, count in sorted(skipped.items()))
        yield Note(f"skipped, no part of a sample: {told}")
    if kind == "image":
        for item in listing.samples():
            yield item if isinstance(item, Verdict) else _sample(item)
    for name in files:
        if kind == "tar":
            yield from _from_tar(listing.folder / name, name)
        else:
            try:
                yield from from_parquet(listing.folder / name, options)
            except ValueError as error:
                yield Verdict(name, "", "broken_table", str(error))


def _sample(item: Any) -> Input:
    """A sample of files: its origin is the image, or the first other part."""
    first = item.parts.get("image") or next(iter(item.parts.values()))
    return Input(first.name, item.key, dict(item.parts))


def _from_tar(path: Path, origin: str) -> Items:
    for item in samples(path, origin):
        yield item if isinstance(item, Verdict) else Input(origin, item.key, dict(item.parts))
