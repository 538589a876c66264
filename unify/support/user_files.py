"""Python files that a user names in YAML, and the modules that they import from beside them.

The folder of such a file is a package of its own: `import helper`, `from pkg.part import x` and
`from .helper import x` take what lies beside the file, whatever else has that name, and two folders
with a helper.py each keep both. A process reads each file once, so what is hashed (user_code.py)
is what runs, in this process and in those that it starts (`loaded_files`).
"""

import builtins
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from pathlib import Path
from types import ModuleType
from typing import Any

from unify.support import executed_files

FROM_FILE = "unify_file_"  # begins the name of a folder's package; a hash of its path follows

_named: list[str] = []  # the files that YAML named, in the order they were loaded
_contents: dict[str, bytes] = {}  # of every user's file that was read, by path
_ran: set[str] = set()  # those of them that were imported
_modules_before: set[str] = set()  # names of the modules that there were before the first of them


def module_of_file(path: str, trusted: bool) -> ModuleType:
    """The module of a Python file, run at most once in a process.

    Raises ValueError for a file that is missing, fails, or was not loaded before and is not
    `trusted`.
    """
    folder, file = os.path.split(path)
    name = f"{_package(folder)}.{os.path.splitext(file)[0].replace('.', '%')}"
    if path not in _named and not trusted:
        raise ValueError(
            f"{path} is not run: Python files are loaded only for a YAML named on the command "
            "line; name the experiment's own YAML"
        )
    if name not in sys.modules:  # else it may have been imported by one of its neighbours
        if path not in _contents and not os.path.isfile(path):
            raise ValueError(
                f"there is no file {path}; correct the path (it is relative to the YAML), or put "
                "back what a run keeps in its folder `code`"
            )
        _run(name, path)
    if path not in _named:
        _named.append(path)
    return sys.modules[name]


def _run(name: str, path: str) -> None:
    """Import a file under a name; after an error, nothing of it is left, so it may be corrected."""
    before, ran, executed = set(sys.modules), set(_ran), executed_files.count()
    if not _ran:
        _modules_before.update(before)
    executed_files.watch(FROM_FILE, __file__)
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, path))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        for new in [n for n in sys.modules if n.startswith(FROM_FILE) and n not in before]:
            del sys.modules[new]
        executed_files.forget_since(executed)
        _ran.intersection_update(ran)
        for left in _contents.keys() - _ran:
            del _contents[left]
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"importing {path} failed with {reason}; correct the file") from error


def folder_of(module: str) -> str | None:
    """The folder whose package a module is in; None for a module that is in none."""
    package, _, rest = module.partition(".")
    return sys.modules[package].__path__[0] if package.startswith(FROM_FILE) and rest else None


def loaded_files() -> list[str]:
    """Paths of the Python files that YAML named and that were loaded in this process."""
    return list(_named)


def modules_since() -> dict[str, ModuleType]:
    """The modules that were imported since the first user's file was, by name."""
    return {name: m for name, m in sys.modules.items() if name not in _modules_before}


def has_run(path: str) -> bool:
    """True for a user's file that was imported in this process."""
    return path in _ran


def contents() -> dict[str, bytes]:
    """Every user's file that this process has read, by path."""
    return dict(_contents)


def load_files(paths: Sequence[str], known: Mapping[str, bytes]) -> None:
    """Load the files that a parent process trusted and loaded, with the contents that it has."""
    _contents.update(known)
    for path in paths:
        module_of_file(path, trusted=True)


def content_of(path: str) -> bytes:
    """The content of a user's file, read once in a process. OSError if it cannot be read."""
    if path not in _contents:
        _contents[path] = Path(path).read_bytes()
    return _contents[path]


def find_beside(folder: str, name: str, absolute: bool = True) -> ModuleSpec | None:
    """The module or package `name` of a folder; None where it has none.

    An `absolute` import takes `unify` itself, what is built into Python, and an installed package
    before a folder without `__init__.py`.
    """
    loaders = (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Loader, SOURCE_SUFFIXES)
    spec = FileFinder(folder, *loaders).find_spec(name)  # a fresh one: finders keep listings
    if spec is None or not absolute:
        return spec
    if name == "unify" or name in sys.builtin_module_names:
        return None
    return None if spec.loader is None and _installed(name) else spec


def _installed(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


class _Loader(SourceFileLoader):
    """Runs the content that is hashed, never bytecode, and lets `import` see what lies beside."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(content_of(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        package = module.__name__.partition(".")[0]
        own = {**vars(builtins), "__import__": partial(_import, package)}
        module.__builtins__ = own  # type: ignore[attr-defined]
        super().exec_module(module)
        _ran.add(self.path)


def _import(
    package: str,
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] = (),
    level: int = 0,
) -> Any:
    """`__import__` of the modules of a folder: an absolute import is relative to the folder first.

    It gets its arguments from import statements.
    """
    if level == 0 and find_beside(sys.modules[package].__path__[0], name.partition(".")[0]):
        globals, level = {"__package__": package, "__name__": package}, 1
    return builtins.__import__(name, globals, locals, fromlist, level)


class _Finder(MetaPathFinder):
    """Finds the modules of such packages."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if not fullname.startswith(FROM_FILE) or path is None:
            return None
        loaders = (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Loader, SOURCE_SUFFIXES)
        specs = (FileFinder(folder, *loaders).find_spec(fullname) for folder in path)
        return next((spec for spec in specs if spec), None)


def _package(folder: str) -> str:
    """The name of a folder's package, which is made on first use."""
    name = FROM_FILE + hashlib.sha256(folder.encode()).hexdigest()[:12]
    if name not in sys.modules:
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = [folder]
    return name


sys.meta_path.insert(0, _Finder())
