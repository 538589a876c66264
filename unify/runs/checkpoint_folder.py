"""Checkpoint folders: which exist, and whether every byte is as it was written.

<run>/checkpoints/step-<n>/{state/, manifest.json}: the manifest has each file's size and sha256.
"""

import json
import warnings
from pathlib import Path

from unify.support.atomic_files import sha256

STATE, MANIFEST = "state", "manifest.json"


def latest_valid(folder: Path | str) -> Path | None:
    """The newest checkpoint whose files match its manifest; a damaged newer one is warned about.

    Its `state` goes to `fit(ckpt_path=..., weights_only=True)`: it holds tensors and plain
    values, never code.
    """
    for path in reversed(steps(Path(folder))):
        reason = damage(path)
        if reason is None:
            return path
        warnings.warn(f"skipping the damaged checkpoint {path}: {reason}", stacklevel=2)
    return None


def damage(path: Path) -> str | None:
    """The reason why a checkpoint cannot be used; None if every byte is as it was written."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        files = {
            name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()
        }
        if manifest["step"] != step_of(path) or STATE not in {Path(n).parts[0] for n in files}:
            old = "state.ckpt" in files
            return "an older version wrote it" if old else f"its {MANIFEST} is another checkpoint's"
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"its {MANIFEST} cannot be read"
    try:
        return _changed(path, files)
    except OSError as error:  # names that no file has, a disk that cannot be read
        return f"it cannot be read ({error.strerror})"


def _changed(path: Path, files: dict[str, tuple[int, str]]) -> str | None:
    """The first difference from the manifest; `files` holds size and sha256 by name."""
    for name, (size, digest) in files.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if (path / name).stat().st_size != size:
            return f"{name} has {(path / name).stat().st_size} bytes instead of {size}"
        if sha256(path / name) != digest:
            return f"the content of {name} has changed"
    return None


def steps(folder: Path) -> list[Path]:
    """Checkpoint folders, valid or not, oldest first."""
    return sorted(folder.glob("step-[0-9]*"), key=step_of)


def step_of(path: Path) -> int:
    """The optimizer step after which a checkpoint was written."""
    return int(path.name.removeprefix("step-"))
