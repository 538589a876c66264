"""`unify experiments | paradigms`: the YAML files that come with the package, and what they are."""

from pathlib import Path
from typing import Annotated

import typer

from unify.support.fast_imports import fast_imports
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


def paradigms(
    files: Annotated[list[Path], typer.Argument(help="Experiment YAMLs.")],
    masks: Annotated[
        Path | None, typer.Option(help="Also draw who reads whom, to this SVG file.")
    ] = None,
) -> None:
    """Put paradigms side by side before any training, as Markdown.

    What a picture is, the loss, passes and FLOPs to draw and to read, what each cannot do: read off
    the built objects, whose weights are random.
    """
    with fast_imports():
        from unify.config import load_recipe
        from unify.evaluation.side_by_side import facts_of
        from unify.report.side_by_side import markdown, svg
    from unify.support.atomic_files import write_atomically

    facts = []
    for file in files:
        fact = facts_of(load_recipe(file))
        if fact is None:
            raise ValueError(f"{file}: its model is no paradigm; leave it out")
        facts.append(fact)
    if masks is not None:
        write_atomically(masks, svg(facts).encode())
    echo(markdown(facts))
