"""Files of code that a user's file ran, in whatever way, as Python's audit events tell.

An import statement, importlib, a loader of a file's path, runpy and `exec` all end in one event:
`exec`, with the name of the file that was compiled. The file is the user's doing if the nearest
frame outside Python's own library is one of a user's module; what an installed package runs for
itself (kernels that it compiled, say) is its own.
"""

import os
import site
import sys
import sysconfig
from types import CodeType, FrameType
from typing import Any

INSTALLED = ("site-packages", "dist-packages")  # folders of these names hold installed packages
SUFFIX = ".py"
LAST_READ = 100  # files that were read lately, which `exec` of a text may be of

_executed: dict[str, None] = {}  # real paths, in order
_read: dict[str, None] = {}
_passed = {__file__}  # files whose frames are nobody's: of the machinery of imports
_state = {"prefix": "", "watching": ""}
_stdlib = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib")]
_library = [*_stdlib, *map(os.path.realpath, _stdlib)]


def _of_installations() -> list[str]:
    """Folders on sys.path that an installation put there, before a user's file could: all but the
    first, which is of the command or the working folder, and those of PYTHONPATH."""
    named = os.environ.get("PYTHONPATH")
    unseen = {os.path.realpath(path) for path in named.split(os.pathsep)} if named else set()
    return [p for path in sys.path[1:] if (p := os.path.realpath(path)) not in unseen]


_known = _of_installations()


def watch(prefix: str, machinery: str) -> None:
    """Begin to record what modules whose names begin with `prefix` run; once in a process.

    `machinery`: the file that loads those modules.
    """
    _passed.add(machinery)
    _state["prefix"] = prefix
    if not _state["watching"]:
        _state["watching"] = "yes"
        sys.addaudithook(_hook)


def executed_files() -> list[str]:
    """Real paths of the files that user's modules ran and that are no installed package's."""
    places = _installed_places()
    return [path for path in _executed if not _is_installed(path, places)]


def forget_since(count: int) -> None:
    """Forget all but the first `count` files, and what was only read: what ran them failed."""
    for path in list(_executed)[count:]:
        del _executed[path]
    _read.clear()


def count() -> int:
    """How many files are recorded, for `forget_since`."""
    return len(_executed)


def _installed_places() -> list[str]:
    return [*_library, *map(os.path.realpath, site.getsitepackages()), *_editable()]


def _is_installed(path: str, places: list[str]) -> bool:
    """True for a file of Python's library or of an installed package."""
    if any(part in INSTALLED for part in path.split(os.sep)):
        return True
    if any(path == place or path.startswith(place + os.sep) for place in places):
        return True
    return any(_is_of_checkout(path, place) for place in _known)


def _editable() -> list[str]:
    """Packages that are installed from where they are developed, as setuptools notes them."""
    notes = [m for name, m in list(sys.modules.items()) if name.startswith("__editable__")]
    return [os.path.realpath(p) for m in notes for p in getattr(m, "MAPPING", {}).values()]


def _is_of_checkout(path: str, place: str) -> bool:
    """True for a file of a package, or a module, that was imported from a folder of `_known`."""
    if not path.startswith(place + os.sep):
        return False
    top, *below = os.path.relpath(path, place).split(os.sep)
    package = bool(below) and os.path.isfile(os.path.join(place, top, "__init__.py"))
    return (package or not below) and top.removesuffix(SUFFIX) in sys.modules


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("exec", "open", "import"):
        return
    try:
        _record(event, arguments, sys._getframe(1))
    except Exception:
        return  # what is watched goes on


def _record(event: str, arguments: tuple[Any, ...], frame: FrameType) -> None:
    """`frame`: the one that executes code, opens a file, or imports compiled code."""
    if event == "exec" and isinstance(arguments[0], CodeType):
        file = _on_disk(arguments[0].co_filename)
        if file is None:  # of a text: perhaps what was read from a file
            _executed.update(_read if _is_users(frame) else {})
        elif _is_by_user(frame):
            _executed[file] = None
    elif event == "import" and arguments[1] and _is_by_user(frame):
        _executed[os.path.realpath(arguments[1])] = None
    elif event == "open" and isinstance(arguments[0], str | bytes) and _is_by_user(frame):
        _read[os.path.realpath(os.fsdecode(arguments[0]))] = None
        for path in list(_read)[:-LAST_READ]:
            del _read[path]


def _on_disk(name: str) -> str | None:
    """The file, or the archive that holds it, of code that was compiled under this name."""
    path = os.path.realpath(name)
    while not os.path.isfile(path):
        path, before = os.path.dirname(path), path
        if path == before:
            return None
    return path


def _is_by_user(frame: FrameType | None) -> bool:
    """True if the nearest frame outside Python's library is of a user's module, or if there is
    none, as in a thread of theirs."""
    while frame is not None and _is_passed(frame.f_code.co_filename):
        frame = frame.f_back
    return frame is None or _is_users(frame)


def _is_users(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(_state["prefix"])


def _is_passed(file: str) -> bool:
    """True for a file of Python's library or of what loads users' files."""
    if file.startswith("<frozen") or file in _passed:
        return True
    within = any(file.startswith(place + os.sep) for place in _library)
    return within and not any(part in file.split(os.sep) for part in INSTALLED)
