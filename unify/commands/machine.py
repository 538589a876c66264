"""`unify bench | doctor`: how fast this machine is, and what it lacks. Heavy imports are inside."""

from pathlib import Path
from typing import Annotated

import typer

from unify.commands.arguments import Json, Overrides, emit
from unify.support.terminal import echo


def bench(
    file: Annotated[Path | None, typer.Argument(help="Experiment YAML; none: the trunk.")] = None,
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(min=1, help="Measured steps.")] = 10,
    as_json: Json = False,
) -> int:
    """Measure speed and memory of an experiment, or of the trunk.

    Step time, tokens/s, memory, overhead, start-up and shard reading.
    """
    from unify.speed.measure import bench as measure
    from unify.speed.measure import lines

    figures = measure(str(file) if file else None, overrides or [], steps)
    emit(figures) if as_json else echo("\n".join(lines(figures)))
    return 0


def doctor(
    runs: Annotated[Path, typer.Option(help="Folder of runs to try.")] = Path("runs"),
    tracker: Annotated[str, typer.Option(help="MLflow URI to try; empty: sqlite there.")] = "",
    as_json: Json = False,
) -> int:
    """Check this machine, and say what to do.

    Versions, devices, ranks, disk, tracker and SLURM.
    """
    from unify.doctor import as_data, diagnose

    findings = diagnose(runs, tracker, (lambda _: None) if as_json else echo)
    if as_json:
        emit(as_data(findings))
    return int(any(finding.state == "problem" for finding in findings))
