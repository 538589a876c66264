"""Names that become one folder or file: of studies, arms and runs.

    name: Annotated[str, FileName()]

Spaces, umlauts and the letters of any script are allowed. What is refused would leave the folder,
be hidden or cut by a file system, be taken for an option of a command, or look like another name.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

# A file system takes 255; the seed (20 digits), the hash and the number of a trial follow.
MOST_BYTES = 200
_DEVICES = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?", re.I | re.S
)
_OURS = ("mlflow.db", "mlartifacts", "mlruns")  # of the tracker, beside the runs of studies
# Control, format (bidi, zero width), surrogate, private, unassigned; line and paragraph separators.
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
# Letters and marks that are drawn as nothing: fillers, a blank of Braille, variation selectors.
_BLANK = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


@dataclass(frozen=True)
class FileName:
    """Of a string: it is one safe component of a path."""


def wrong_name(name: str) -> str:
    """Why a name cannot be that of one folder, with the remedy; or nothing."""
    quoted = ascii(name) if len(name) <= 80 else f"{name[:60]!a}..."
    unseen = [c for c in name if unicodedata.category(c) in _UNSEEN or _BLANK.match(c)]
    reason = ""
    if not name.strip():
        reason = "is empty"
    elif unseen:
        reason = f"has the invisible character U+{ord(unseen[0]):04X}"
    elif "/" in name or "\\" in name:
        reason = "has a slash, so it is more than one folder"
    elif name[0] in ".-":
        reason = f"begins with {name[0]!r}, as hidden files and options of commands do"
    elif name[-1] == "." or name.strip() != name:
        reason = "begins or ends with what file systems cut off"
    elif _DEVICES.fullmatch(name):
        reason = "is the name of a device on Windows"
    elif name.casefold() in _OURS:
        reason = "is where MLflow keeps its own"
    elif len(name.encode()) > MOST_BYTES:
        reason = f"has {len(name.encode())} bytes, and file systems take {MOST_BYTES} of it"
    if not reason:
        return ""
    return f"{quoted} {reason}; it names a folder: write letters, digits, spaces, - _ . , ="


def same_folder(names: Iterable[str]) -> tuple[str, str] | None:
    """Two of the names that some file systems take for one: case, or composed letters, differ."""
    seen: dict[str, str] = {}
    for name in names:
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
        if folded in seen:
            return seen[folded], name
        seen[folded] = name
    return None
