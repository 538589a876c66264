"""The code of a user's file: its bytes, and those of all that it imports from beside it.

Found by its import statements, wherever they stand, without running anything: so a run has the same
hash before and after the file is loaded. What runs in another way, by a name that is computed, by
its path, or from a folder on sys.path, is refused unless it is installed (`check_imports`).
"""

import ast
import hashlib
import inspect
import json
import os
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from unify.support.executed_files import executed_files
from unify.support.user_files import (
    content_of,
    find_beside,
    folder_of,
    has_run,
    loaded_files,
    modules_since,
)

_AT_START = [os.path.realpath(path) for path in sys.path]  # before a user's file could change it
_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_UNIFY = tuple(  # its files, two folders of which are reached by links
    os.path.realpath(os.path.join(_PACKAGE, name)) + os.sep
    for name in ("", "paradigms", "tokenizers")
)
_of_what_runs: dict[tuple[str, str], dict[str, bytes]] = {}  # by file and folder


def code_of(path: str, folder: str | None = None) -> dict[str, bytes]:
    """The content of a Python file and of what it imports from beside it, by relative path.

    `folder`: where its imports begin; by default the file's own. OSError if a file cannot be read.
    """
    folder = folder or os.path.dirname(path)
    if (path, folder) in _of_what_runs:
        return _of_what_runs[path, folder]
    read = content_of if has_run(path) else _read_bytes
    code: dict[str, bytes] = {}
    left = [os.path.relpath(path, folder)]
    while left:
        name = left.pop()
        if name not in code:
            code[name] = read(os.path.join(folder, name))
            if name.endswith(".py"):
                left += _imported_files(folder, name, code[name])
    code = dict(sorted(code.items()))
    if has_run(path):  # as it was then, whatever becomes of its folder
        _of_what_runs[path, folder] = code
    return code


def _read_bytes(path: str) -> bytes:
    return Path(path).read_bytes()


def code_hash(path: str, folder: str | None = None) -> str:
    """12 hex digits of `code_of`: names and bytes, and not the place."""
    code = code_of(path, folder)
    each = {Path(name).as_posix(): hashlib.sha256(text).hexdigest() for name, text in code.items()}
    return hashlib.sha256(json.dumps(each, sort_keys=True).encode()).hexdigest()[:12]


def class_code(cls: type) -> str:
    """The file, name and code of a class that is not of `unify`; empty for one that is.

    A class without a file, as of a notebook, is named alone.
    """
    if cls.__module__.partition(".")[0] == "unify":
        return ""
    path = inspect.getsourcefile(inspect.getmodule(cls) or cls) if _has_file(cls) else None
    if path is None:
        return f"{cls.__module__}:{cls.__qualname__}"
    digest = code_hash(os.path.abspath(path), folder_of(cls.__module__))
    return f"{os.path.basename(path)}:{cls.__qualname__} {digest}"


def _has_file(cls: type) -> bool:
    return bool(getattr(sys.modules.get(cls.__module__), "__file__", None))


def _imported_files(folder: str, name: str, content: bytes) -> Iterator[str]:
    """Files of the folder, by relative path, that one of them imports."""
    package = [part for part in os.path.dirname(name).split(os.sep) if part]
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError):
        return  # it cannot be imported either
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of(folder, [], alias.name.split("."))
        elif isinstance(node, ast.ImportFrom) and node.level <= len(package) + 1:
            start = package[: len(package) + 1 - node.level] if node.level else []
            steps = node.module.split(".") if node.module else []
            for alias in node.names:
                yield from _files_of(folder, start, [*steps, alias.name], absolute=not node.level)


def _files_of(
    folder: str, start: list[str], steps: list[str], absolute: bool = True
) -> Iterator[str]:
    """The files of each package on the way, and of the module, as far as there are any."""
    place = os.path.join(folder, *start)
    for number, step in enumerate([*steps]):
        spec = find_beside(place, step, absolute and number == 0)
        if spec is None:
            return
        if spec.loader is not None and spec.origin:
            yield os.path.relpath(spec.origin, folder)
        if not spec.submodule_search_locations:
            return
        place = next(iter(spec.submodule_search_locations))


def check_imports() -> None:
    """Raise ValueError for modules from beside a user's file that its hash does not cover."""
    covered, folders = set(), set()
    if not (named := loaded_files()):
        return  # a look at every module that was imported takes a third of a second
    for path in named:
        folders.add(folder := os.path.dirname(path))
        covered |= {_real_path(os.path.join(folder, name)) for name in code_of(path)}
    new = [m for name, m in modules_since().items() if name.partition(".")[0] != "unify"]
    files = {_real_path(str(f)) for m in new if (f := getattr(m, "__file__", None))}
    for file in executed_files():
        if file not in covered and not file.startswith(_UNIFY):
            raise ValueError(
                f"{file} was imported in a way that no import statement of a file beside it shows, "
                "so the run's hash would not cover it; put it beside the file that takes it and "
                "import it by `import` or `from ... import`, or install it as a package"
            )
    for file in sorted(files - covered):
        around = [folder for folder in folders if file.startswith(folder + os.sep)]
        if around and not _is_installed(file, around):
            raise ValueError(
                f"{file} was imported in a way that no import statement of {around[0]} shows, so "
                "the run's hash would not cover it; import it by `import` or `from ... import`"
            )


@cache
def _real_path(path: str) -> str:
    """Of a module's file, as it is when it is first looked at: thousands are, again and again."""
    return os.path.realpath(path)


def warn_of_imports() -> None:
    """`check_imports` as a warning, for after hours of work: what was imported in the meantime."""
    try:
        check_imports()
    except ValueError as error:
        warnings.warn(str(error), stacklevel=2)


def _is_installed(file: str, folders: list[str]) -> bool:
    """True for a file of a package that lies below the folders and was on sys.path before."""
    places = [p for p in _AT_START if any(p.startswith(folder + os.sep) for folder in folders)]
    return any(file.startswith(place + os.sep) for place in places)
