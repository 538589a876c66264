"""Python files that a user names in YAML, imported as modules of their own."""

import hashlib
import importlib
import importlib.util
import os
import sys
from types import ModuleType

FROM_FILE = "unify_file_"  # begins the name of such a module; a hash of its path follows


def module_of_file(path: str, trusted: bool) -> ModuleType:
    """The module of a Python file, run at most once in a process.

    Raises ValueError for a file that is missing, fails, or was not loaded before and is not
    `trusted`.
    """
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
    """Paths of the Python files that were loaded in this process."""
    modules = [m for name, m in sys.modules.items() if name.startswith(FROM_FILE)]
    return [str(module.__file__) for module in modules]


def load_file(path: str) -> None:
    """Load a file that a parent process trusted and loaded (`loaded_files`)."""
    module_of_file(path, trusted=True)
