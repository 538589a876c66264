"""Python files that a user names in YAML, imported as modules of their own."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from types import ModuleType

FROM_FILE = "unify_file_"  # what modules of such files are called, and a hash of the path


def module_of_file(path: str, trusted: bool) -> ModuleType:
    name = FROM_FILE + hashlib.sha256(path.encode()).hexdigest()[:12]
    if name in sys.modules:
        return sys.modules[name]
    if not trusted:
        raise ValueError(
            f"{path} is not run: Python files are loaded only for a YAML named on the command "
            "line; name the experiment's own YAML"
        )
    if not os.path.isfile(path):
        raise ValueError(f"there is no file {path}; correct the path (it is relative to the YAML)")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"importing {path} failed with {reason}; correct the file") from error
    return module


def loaded_files() -> list[str]:
    """The Python files that classes have come from."""
    modules = [m for name, m in sys.modules.items() if name.startswith(FROM_FILE)]
    return [str(module.__file__) for module in modules]


def load_file(path: str) -> None:
    """One of them, in another process of ours."""
    module_of_file(path, trusted=True)
