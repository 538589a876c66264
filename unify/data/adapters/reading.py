"""Bytes of a sample's parts, from wherever they lie, and what makes each of them unreadable.

A name may stand for anything: a pipe, a device, a folder, a file of terabytes. Nothing is waited
for, and sizes are compared before anything is read.
"""

import os
import stat
from collections.abc import Mapping

from unify.data.adapters.grouping import Place
from unify.data.adapters.images import MAX_BYTES, starts_like_an_image
from unify.data.adapters.verdicts import MAX_JSON, MAX_TEXT, Bad

LIMITS = {"image": MAX_BYTES, "source": MAX_BYTES, "txt": MAX_TEXT, "json": MAX_JSON}
LOOKED_AT = 1 << 20  # bytes of a picture above which its beginning is looked at first


def read_parts(
    parts: Mapping[str, Place | bytes],
) -> tuple[dict[str, bytes], list[tuple[str, str, str]]]:
    """The bytes of the parts, and (name, reason, detail) of what was left aside; Bad.

    Metadata over the limit is left aside where there is a text: the record is whole without it.
    """
    out, aside = {}, []
    for part, place in parts.items():
        try:
            out[part] = read_part(part, place) if isinstance(place, Place) else place
        except TooLong as long:
            if part != "json" or "txt" not in parts or not isinstance(place, Place):
                raise
            aside.append((place.name, long.reason, f"{long.detail}; the text beside it is used"))
    return out, aside


class TooLong(Bad):
    """A part over its limit."""


def read_part(part: str, place: Place) -> bytes:
    """The bytes of one part; Bad if it is no plain file, is too long, or cannot be read."""
    try:
        # A pipe is not waited for: without a writer, opening it would never return.
        file = os.open(place.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # a NUL in the name
        raise Bad(f"missing_{part}", str(error)) from error
    except OSError as error:  # no permission; a circle of links; a socket
        raise Bad(f"unreadable_{part}", str(error)) from error
    try:
        facts = os.fstat(file)
        if stat.S_ISDIR(facts.st_mode):
            raise Bad(f"missing_{part}", f"{place.path} is a folder")
        if not stat.S_ISREG(facts.st_mode):
            raise Bad("not_a_file", f"{place.path} is a pipe, a socket or a device")
        size = facts.st_size if place.size is None else place.size
        return _read(file, part, place.offset, size)
    except OSError as error:
        raise Bad(f"unreadable_{part}", str(error)) from error
    finally:
        os.close(file)


def _read(file: int, part: str, offset: int, size: int) -> bytes:
    limit = LIMITS[part]
    if size > limit:
        kinds = {"txt": "long_caption", "json": "long_json"}
        raise TooLong(kinds.get(part, "too_large"), f"{size:,} bytes are over {limit:,}")
    if limit == MAX_BYTES and size > LOOKED_AT:
        first = os.pread(file, 64, offset)
        if not starts_like_an_image(first):
            raise Bad("unsupported_format", f"starts with {first[:8]!r}")
    data = b""
    while len(data) < size and (more := os.pread(file, size - len(data), offset + len(data))):
        data += more  # one read, where the system does not cut it at 2 GiB
    if len(data) < size:
        raise Bad(f"unreadable_{part}", f"it ends after {len(data):,} of {size:,} bytes")
    return data
