"""`unify submit | status | cancel`: studies on a cluster. Heavy imports are inside commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unify.support.fast_imports import fast_imports

StudyFolder = Annotated[Path, typer.Argument(help="Study folder, e.g. runs/quickstart.")]


def submit(
    file: Annotated[Path, typer.Argument(help="Study YAML.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, of every arm.")] = None,
    cluster: Annotated[
        str, typer.Option(help="A file, or a name in experiments/clusters.")
    ] = "example",
    tiny: Annotated[bool, typer.Option("--tiny", help="Merge the file's `tiny:` block.")] = False,
    print_sbatch: Annotated[
        bool, typer.Option("--print-sbatch", help="Show the batch scripts and send nothing.")
    ] = False,
) -> None:
    """Send the missing runs of a study to SLURM; what they need first, the report last."""
    with fast_imports():
        from unify.cluster.submit import load_cluster
        from unify.cluster.submit import submit as send

    send(str(file), overrides or [], load_cluster(cluster), tiny, typer.echo, print_sbatch)


def status(folder: StudyFolder) -> None:
    """What SLURM and the run folders say of the jobs of a study."""
    from unify.cluster.submit import status as tell

    tell(folder, typer.echo)


def cancel(folder: StudyFolder) -> None:
    """Cancel the jobs of a study; the same `unify submit` goes on where they were."""
    from unify.cluster.submit import cancel as stop

    stop(folder, typer.echo)


def add_commands(app: typer.Typer) -> None:
    for command in (submit, status, cancel):
        app.command()(command)
