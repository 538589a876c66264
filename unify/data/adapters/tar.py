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
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from unify.data.adapters.grouping import PARTS, Groups, Sample
from unify.data.adapters.names import hidden, split_name, unsafe
from unify.data.adapters.verdicts import Verdict

BLOCK = 512
MAX_PADDING = (
    2 * BLOCK + 10_240 - BLOCK
)  # zeros that end an archive and fill its last record, at most
MAX_NAME = 1 << 16  # bytes of a long name or of a pax header; more is a damaged size
PIECE = 1 << 20  # bytes read at once where a header is searched; whole blocks


@dataclass
class Member:
    """A file in the archive: its bytes are [offset, offset + size)."""

    name: str
    offset: int
    size: int
    kind: str = "file"  # or `not_a_file` (a link, device or pipe), `sparse_member`

    @property
    def end(self) -> int:
        """Offset of the next header: data is padded to whole blocks."""
        return self.offset + -(-self.size // BLOCK) * BLOCK


@dataclass
class Fault:
    """`truncated_tar`, `zeros_at_end` or `broken_header`, found at `offset`."""

    reason: str
    offset: int
    detail: str


def walk(path: Path) -> Iterator[Member | Fault]:
    """Members in order (directories left out); a Fault wherever the archive is damaged."""
    total = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        if _read(file, 0, 2) == b"\x1f\x8b":
            yield Fault("broken_header", 0, "it is compressed by gzip: unpack it first (gunzip)")
            return
        offset, said = 0, Said()  # of the next member, in headers before its own
        while not _is_end(file, offset, total):
            if offset + BLOCK > total:
                break
            try:
                header = _header(file, offset)
            except tarfile.HeaderError as error:
                yield Fault("broken_header", offset, str(error))
                offset, said = _next_header(file, offset + BLOCK, total), Said()
                continue
            member = _member(header, offset, Said() if header.type in LONG else said)
            if member.offset + member.size > total:
                yield Fault("truncated_tar", total, f"ends inside {member.name}")
                return
            offset = member.end
            if header.type in LONG:
                said.read(header.type, _read(file, member.offset, member.size))
                continue
            if not header.isdir():
                yield member
            said = Said()
        if offset + 2 * BLOCK > total or total % BLOCK:
            yield Fault("truncated_tar", total, "the end-of-archive mark is missing")
        elif total - offset > MAX_PADDING:
            why = f"{total - offset:,} bytes of zeros after the last member: was it fetched whole?"
            yield Fault("zeros_at_end", offset, why)


LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
WITHOUT_DATA = {*tarfile.SUPPORTED_TYPES} - {*tarfile.REGULAR_TYPES, *LONG}  # links, folders ...


@dataclass
class Said:
    """What GNU and pax headers say of the member that follows them."""

    name: str = ""
    size: int | None = None  # of a file over 8 GiB, which the member's own header cannot tell
    sparse: bool = False

    def read(self, kind: bytes, data: bytes) -> None:
        """Read the content of such a header; what it repeats replaces what it said before."""
        if kind == tarfile.GNUTYPE_LONGNAME:
            self.name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
        while kind == tarfile.XHDTYPE and data:  # "LENGTH KEY=VALUE\n" ...
            length = data.split(b" ", 1)[0]
            if not length.isdigit() or not 0 < int(length[:9]) <= len(data):
                break
            record, data = data[: int(length)], data[int(length) :]
            key, _, value = record.split(b" ", 1)[-1].partition(b"=")
            if key == b"path":
                self.name = value[:-1].decode("utf-8", "surrogateescape")
            elif key == b"size" and value[:-1].isdigit():
                self.size = int(value[:18])
            self.sparse = self.sparse or key.startswith(b"GNU.sparse.")


def _member(header: tarfile.TarInfo, offset: int, said: Said) -> Member:
    """The member whose header is at `offset`."""
    size = header.size if said.size is None else said.size
    if header.type in WITHOUT_DATA:  # whatever size they state, a link often that of its target
        size = 0
    kind = "file" if header.isreg() else "not_a_file"
    if said.sparse or header.type == tarfile.GNUTYPE_SPARSE:
        kind = "sparse_member"  # what is stored is not the file: its holes are left out
    return Member(said.name or header.name, offset + BLOCK, size, kind)


def _is_end(file: FileIO, offset: int, total: int) -> bool:
    """Zeros from here on; zeros before more data are a wiped header."""
    if _read(file, offset, BLOCK).strip(b"\0"):
        return False
    while (offset := _data_after(file, offset, total)) < total:
        if _read(file, offset, PIECE).strip(b"\0"):
            return False
        offset += PIECE
    return True


def _data_after(file: FileIO, offset: int, total: int) -> int:
    """The first offset from here on that is in no hole of a sparse file; `total` if there is none.

    Only where a file system tells; else the holes are read, as zeros.
    """
    if not hasattr(os, "SEEK_DATA"):
        return offset
    try:
        return os.lseek(file.fileno(), offset, os.SEEK_DATA)
    except OSError:  # ENXIO: nothing but a hole, or the end
        return total


def _header(file: FileIO, offset: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo.frombuf(_read(file, offset, BLOCK), "utf-8", "surrogateescape")
    if header.size < 0 or (header.type in LONG and header.size > MAX_NAME):
        raise tarfile.HeaderError(f"{header.size} bytes of {header.name}")
    return header


def _next_header(file: FileIO, offset: int, total: int) -> int:
    """Offset of the next intact header, or of the end of the file."""
    while offset < total:
        offset = _data_after(file, offset, total) // BLOCK * BLOCK
        piece, found = _read(file, offset, PIECE), 0
        # Headers lie at multiples of the block, data in between.
        while (found := piece.find(b"ustar", found + 1)) >= 0:
            if found % BLOCK == 257:
                block = found - 257
                try:
                    tarfile.TarInfo.frombuf(piece[block : block + BLOCK], "utf-8", "replace")
                    return offset + block
                except tarfile.HeaderError:
                    pass
        offset += PIECE
    return offset


def _read(file: FileIO, offset: int, size: int) -> bytes:
    return os.pread(file.fileno(), size, offset)  # whatever `_data_after` did to the position


# What makes a sample


def samples(path: Path, origin: str = "") -> Iterator[Sample | Verdict]:
    """Samples of one shard; before them, verdicts on damage and on members that are no part of one.

    Beside a fault in the archive, the samples before and after may lack a part and are left out.
    `origin` names the archive in verdicts, instead of its own name.
    """
    origin = origin or path.name
    groups, last, broken = Groups(path), "", ""  # broken: reason of a fault since the last member
    try:
        for item in walk(path):
            if isinstance(item, Fault):
                yield Verdict(origin, f"@{item.offset}", item.reason, item.detail)
                if (
                    item.reason != "zeros_at_end"
                ):  # it may be padding: `tar -b` makes larger records
                    broken = item.reason
                    groups.doubt(last, broken)
                continue
            key, part = split_name(item.name)
            if reason := _refuse(item, part):
                yield Verdict(origin, item.name, reason)
            elif groups.add(key, part, item.name, item.offset, item.size):
                last = key
                if broken:
                    groups.doubt(key, broken)
                    broken = ""
            else:
                yield Verdict(origin, item.name, "duplicate_key", "the first is kept")
                last = key
    except OSError as error:
        yield Verdict(origin, "", "unreadable", str(error))
    for key, reason in groups.doubtful():
        yield Verdict(origin, key, reason, "beside the fault: may lack a part")
    yield from groups.samples()


def _refuse(member: Member, part: str) -> str:
    """Why a member is no part of a sample, or ""."""
    if unsafe(member.name):
        return "unsafe_name"
    if hidden(member.name):
        return "hidden"
    if member.kind != "file":
        return member.kind
    return "" if part in PARTS else "unsupported_member"
