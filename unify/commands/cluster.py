"""`unify submit | status | cancel`: studies on a cluster. Heavy imports are inside commands."""

from pathlib import Path
from typing import Annotated

import typer

from unify.commands.arguments import Against, Tiny, each_once
from unify.support.fast_imports import fast_imports
from unify.support.terminal import echo

StudyFolder = Annotated[Path, typer.Argument(help="Study folder, e.g. runs/quickstart.")]


def submit(
    file: Annotated[Path, typer.Argument(help="Study YAML.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, of every arm.", callback=each_once)
    ] = None,
    cluster: Annotated[
        str, typer.Option(help="A file, or a name in experiments/clusters.")
    ] = "example",
    tiny: Tiny = False,
    print_sbatch: Annotated[
        bool, typer.Option("--print-sbatch", help="Show the batch scripts and send nothing.")
    ] = False,
    against: Against = "",
) -> None:
    """Send the missing runs of a study to SLURM.

    The runs that they need go first, the report goes last.
    """
    with fast_imports():
        from unify.cluster.submit import load_cluster
        from unify.cluster.submit import submit as submit_study
        from unify.study.jobs import StudyRequest

    request = StudyRequest(str(file), overrides or [], tiny, against=against)
    submit_study(request, load_cluster(cluster), echo, print_sbatch)


def status(folder: StudyFolder) -> None:
    """Show how far the jobs of a study are."""
    from unify.cluster.sent_jobs import status as say_status

    say_status(folder, echo)


def cancel(folder: StudyFolder) -> None:
    """Cancel the jobs of a study; `unify submit` resumes their runs."""
    from unify.cluster.sent_jobs import cancel as cancel_jobs

    cancel_jobs(folder, echo)
