"""`unify experiments`: the YAML files that come with the package."""

from pathlib import Path
from typing import Annotated

import typer

from unify.support.terminal import echo


def experiments(
    folder: Annotated[Path, typer.Argument(help="Folder to copy to, e.g. experiments.")],
) -> None:
    """Copy the shipped experiments, studies and clusters to a folder, to use and to change.

    What is there already stays as it is.
    """
    from unify.config.shipped import copy_shipped

    count = copy_shipped(folder)
    echo(f"{folder}: {count} files; unify study {folder / 'studies/quickstart.yaml'} trains them")
