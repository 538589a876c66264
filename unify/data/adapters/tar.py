"""A strict reader of tar archives: every member, or a fault that says where the archive is broken.

Python's `tarfile` takes a damaged header for the end of the archive and a cut after a member for a
complete one, so samples vanish without an error (as in POSIX.1-2001 ustar and pax, an archive ends
with two blocks of zeros). Here both are faults, and reading goes on at the next intact header.
Nothing is extracted. Members that share a name up to the last dot make a sample; `KEY.source.png`
(or jpg, webp ...) is the image that `KEY.png` was made from, a part of KEY.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from unify.data.adapters.verdicts import MAX_TEXT, Verdict

BLOCK = 512
# An extension says that a part is a picture; its content says of which format, and formats that are
# not read get a verdict of their own.
IMAGES = frozenset({"jpg", "jpeg", "jpe", "jfif", "png", "webp"}) | {
    *("gif", "bmp", "tif", "tiff", "heic", "heif", "avif", "jxl", "svg", "ico", "ppm")
}
TEXTS = ("txt", "json")
PARTS = ("image", "source", *TEXTS)
SOURCE = ".source"  # what a source image's name has before its extension
MAX_NAME = 1 << 16  # bytes of a long name or of a pax header; more is a damaged size


@dataclass
class Member:
    """A file in the archive: its bytes are [offset, offset + size)."""

    name: str
    offset: int
    size: int
    regular: bool  # a plain file: no link, device or pipe

    @property
    def end(self) -> int:
        """Offset of the next header: data is padded to whole blocks."""
        return self.offset + -(-self.size // BLOCK) * BLOCK


@dataclass
class Fault:
    """`truncated_tar` or `broken_header`, found at `offset`."""

    reason: str
    offset: int
    detail: str


def walk(path: Path) -> Iterator[Member | Fault]:
    """Members in order (directories left out); a Fault wherever the archive is damaged."""
    total = path.stat().st_size
    with path.open("rb") as file:
        offset, name = 0, ""  # `name`: the next member's, where a long-name header gives it
        while not _is_end(file, offset, total):
            if offset + BLOCK > total:
                break
            try:
                header = _header(file, offset)
            except tarfile.HeaderError as error:
                yield Fault("broken_header", offset, str(error))
                offset, name = _next_header(file, offset + BLOCK, total), ""
                continue
            size = 0 if header.type in LINKS else header.size  # a link may state its target's
            member = Member(name or header.name, offset + BLOCK, size, header.isreg())
            if member.offset + size > total:
                yield Fault("truncated_tar", total, f"ends inside {member.name}")
                return
            offset = member.end
            if header.type in LONG:
                name = _long_name(header.type, _read(file, member.offset, size)) or name
                continue
            if not header.isdir():
                yield member
            name = ""
        if offset + 2 * BLOCK > total or total % BLOCK:
            yield Fault("truncated_tar", total, "the end-of-archive mark is missing")


LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)


def _is_end(file: BinaryIO, offset: int, total: int) -> bool:
    """Zeros from here on; zeros before more data are a wiped header."""
    if _read(file, offset, BLOCK).strip(b"\0"):
        return False
    while chunk := file.read(1 << 20):
        if chunk.strip(b"\0"):
            return False
    return True


def _header(file: BinaryIO, offset: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo.frombuf(_read(file, offset, BLOCK), "utf-8", "surrogateescape")
    if header.size < 0 or (header.type in LONG and header.size > MAX_NAME):
        raise tarfile.HeaderError(f"{header.size} bytes of {header.name}")
    return header


def _long_name(kind: bytes, data: bytes) -> str:
    """The next member's name by a GNU long-name or a pax header; "" if it has none.

    A pax `size` (a file over 8 GiB) is not followed: its member then reads as damaged.
    """
    if kind == tarfile.GNUTYPE_LONGNAME:
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    while kind == tarfile.XHDTYPE and data:  # "LENGTH KEY=VALUE\n" ...
        length = data.split(b" ", 1)[0]
        if not length.isdigit() or not 0 < int(length) <= len(data):
            break
        record, data = data[: int(length)], data[int(length) :]
        key, _, value = record.split(b" ", 1)[-1].partition(b"=")
        if key == b"path":
            return value[:-1].decode("utf-8", "surrogateescape")
    return ""


def _next_header(file: BinaryIO, offset: int, total: int) -> int:
    """Offset of the next intact header, or of the end of the file."""
    while offset < total:
        block = _read(file, offset, BLOCK)
        if block[257:262] == b"ustar":
            try:
                tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
                return offset
            except tarfile.HeaderError:
                pass
        offset += BLOCK  # headers lie at multiples of the block, data in between
    return offset


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


# What makes a sample


@dataclass
class Sample:
    """Members of a shard that share a key, by part (PARTS)."""

    key: str
    parts: dict[str, Member] = field(default_factory=dict)


def samples(path: Path) -> tuple[list[Sample], list[Verdict]]:
    """Samples of one shard, in order; verdicts on damage and on members that are no part of one.

    Beside a fault in the archive, the samples before and after may lack a part and are left out.
    """
    by_key: dict[str, Sample] = {}
    verdicts: list[Verdict] = []
    last: Sample | None = None
    doubtful: dict[str, str] = {}  # key -> reason
    broken = ""  # reason of a fault since the last member
    for item in walk(path):
        if isinstance(item, Fault):
            verdicts.append(Verdict(path.name, f"@{item.offset}", item.reason, item.detail))
            broken = item.reason
            if last:
                doubtful[last.key] = broken
            continue
        key, part = split_name(item.name)
        if reason := _refuse(item, part):
            verdicts.append(Verdict(path.name, item.name, reason))
            continue
        last = by_key.setdefault(key, Sample(key))
        if part in last.parts:
            verdicts.append(Verdict(path.name, item.name, "duplicate_key", "the first is kept"))
            continue
        last.parts[part] = item
        if broken:
            doubtful[key], broken = broken, ""
    for key, reason in doubtful.items():
        verdicts.append(Verdict(path.name, key, reason, "beside the fault: may lack a part"))
    return [sample for key, sample in by_key.items() if key not in doubtful], verdicts


def split_name(name: str) -> tuple[str, str]:
    """Key and part: `folder/a.b.JPG` -> (`folder/a.b`, `image`), `a.source.png` -> (`a`, `source`).

    What is no image is a part by its extension.
    """
    stem, _, extension = name.rpartition(".")
    if extension.lower() not in IMAGES:
        return stem, extension.lower()
    key = stem.removesuffix(SOURCE)
    return key, "image" if key == stem else "source"


def _refuse(member: Member, part: str) -> str:
    """Why a member is no part of a sample, or ""."""
    path = PurePosixPath(member.name)
    printable = member.name.isprintable() and "\\" not in member.name
    if path.is_absolute() or ".." in path.parts or not path.stem or not printable:
        return "unsafe_name"
    if not member.regular:
        return "not_a_file"
    if part not in PARTS:
        return "unsupported_member"
    return ""


def read_parts(file: int, sample: Sample) -> dict[str, bytes]:
    """The bytes of a sample's parts; texts far over the limit are read only so far."""
    return {
        part: os.pread(
            file, min(member.size, MAX_TEXT + 1) if part in TEXTS else member.size, member.offset
        )
        for part, member in sample.parts.items()
    }
