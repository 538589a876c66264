"""The experiments that come with the package: where they are, and copies of them to change."""

import os
from pathlib import Path

import unify
from unify.support.atomic_files import write_atomically

FOLDER = Path(unify.__file__).parent / "experiments"  # a link to experiments/ in the repository
COMMAND = "unify experiments experiments"  # makes the paths of the documentation right


def copy_shipped(target: Path) -> int:
    """Copy the shipped YAML files to a folder, new or not; returns how many were missing there.

    ValueError, before anything is written, for what is there with another content, or is no folder.
    """
    files = {target / path.relative_to(FOLDER): path for path in sorted(FOLDER.rglob("*.yaml"))}
    in_the_way = [p for own in files for p in own.parents if p.is_symlink() and not p.exists()]
    in_the_way += [p for own in files for p in own.parents if p.exists() and not p.is_dir()]
    if in_the_way:
        raise ValueError(f"{in_the_way[0]}: there already, and no folder; name another folder")
    missing = {own: path for own, path in files.items() if not os.path.lexists(own)}
    changed = [
        str(own)
        for own, path in files.items()
        if own not in missing and (not own.is_file() or own.read_bytes() != path.read_bytes())
    ]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ValueError(
            f"{changed[0]}{more}: there already, and not as shipped; name another folder"
        )
    for own, path in missing.items():
        write_atomically(own, path.read_bytes())
    return len(missing)


def where_shipped(path: Path) -> str:
    """How to get a file that is not there, if one that is shipped has the end of its path."""
    for start in range(len(path.parts) - 1):
        if path.parts[start] == FOLDER.name and FOLDER.joinpath(*path.parts[start + 1 :]).is_file():
            return f"; `{COMMAND}` copies the shipped files to this folder"
    return ""
