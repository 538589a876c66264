"""`unify export`: what is done with a run folder. Heavy imports are inside commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unify.importing import quick_imports


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    checkpoint: Annotated[
        str, typer.Option(help="last, best, or the number of its step.")
    ] = "last",
    raw: Annotated[
        bool, typer.Option("--raw", help="The weights in training, not their average.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Default: in the run folder.")] = None,
) -> None:
    """Write a checkpoint's weights as one safetensors file and its config; prints the folder."""
    with quick_imports():
        from unify.export import export as write
        from unify.runs import Run

    typer.echo(str(write(Run(run), checkpoint, out, raw)))


def add_commands(app: typer.Typer) -> None:
    app.command()(export)
