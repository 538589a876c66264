"""The command line. Heavy imports are inside commands, so that `unify --help` answers at once.

Errors are one message and a non-zero exit status; `--debug` shows the traceback.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from unify.commands import cluster as cluster_commands
from unify.commands import plan as plan_command
from unify.commands import runs as run_commands
from unify.commands.arguments import Json, Overrides, Tiny, emit, say
from unify.commands.data import data_app
from unify.support.fast_imports import fast_imports
from unify.support.stop_protocol import EX_TEMPFAIL, EX_UNAVAILABLE

app = typer.Typer(
    help="Controlled comparison of the ways to unify multimodal understanding and generation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")

STATUS = {"Stopped": EX_TEMPFAIL, "LostRanks": EX_UNAVAILABLE}
CLEAR = (*STATUS, "NonFiniteError")  # errors that say all in their message


def main() -> None:
    """Run the command; turn what the user can mend into one message."""
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    try:
        code = app(arguments, standalone_mode=False)
        _end(code if isinstance(code, int) else 0)
    except KeyboardInterrupt:
        _end(130)
    except Exception as error:
        if debug:
            raise
        error = _of_other_ranks(error)
        typer.echo(f"unify: {_message(error)}", err=True)
        _end(STATUS.get(type(error).__name__) or _status(error))


def _end(status: int) -> None:
    """End the process: threads and exit functions as ever, and no teardown of the interpreter.

    To take torch and all else apart takes two seconds, and aborts ranks (distributed.py).
    """
    if "unify.distributed.ranks" in sys.modules:
        from unify.distributed.ranks import end

        end(status)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError if status else BrokenPipeError):  # which says: read enough
            stream.flush()
    os._exit(status)


def _of_other_ranks(error: Exception) -> Exception:
    """An exchange may fail anywhere; what other ranks are to blame for, a scheduler resumes."""
    if "unify.distributed.ranks" not in sys.modules or type(error).__name__ in STATUS:
        return error
    from unify.distributed.ranks import lost_ranks

    return lost_ranks(error) or error


def _status(error: Exception) -> int:
    return getattr(error, "exit_code", 1) or 1


def _message(error: Exception) -> str:
    if isinstance(error, ValueError) or type(error).__name__ in CLEAR:
        return str(error)
    shown = getattr(error, "format_message", lambda: f"{type(error).__name__}: {error}")()
    return shown if hasattr(error, "format_message") else f"{shown} (--debug shows where)"


@app.command()
def train(
    config: Annotated[Path, typer.Option("-c", "--config", help="Experiment YAML.")],
    overrides: Overrides = None,
    tiny: Tiny = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the completed config and stop.")
    ] = False,
) -> int:
    """Train one experiment, or resume it; prints the run folder."""
    with fast_imports():
        from unify.config import load_recipe
        from unify.config.yaml_tree import dump

    completed = load_recipe(str(config), overrides or [], tiny)
    if print_config:
        typer.echo(dump(completed))
        return 0
    with fast_imports():
        from unify.distributed.local_launch import spawn, spawns
        from unify.runs.folder import is_finished
        from unify.training.train_run import train as train_run

    if spawns(completed["machine"]):
        return spawn(completed["machine"]["devices"], typer.echo)
    run = train_run(completed, typer.echo)
    say(f"run: {run.folder}")
    return 0 if is_finished(run) else EX_TEMPFAIL


@app.command()
def study(
    file: Annotated[Path, typer.Argument(help="Study YAML.")],
    overrides: Overrides = None,
    tiny: Tiny = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the runs and stop.")] = False,
    jobs: Annotated[
        int, typer.Option(min=1, help="Runs at once, each with its share of the cores.")
    ] = 1,
    only: Annotated[str, typer.Option(help="Arms like this, e.g. 'ar_vq*'; others stay.")] = "*",
    seeds: Annotated[int, typer.Option(min=0, help="So many seeds, from 0 on; 0: the file's.")] = 0,
    arm: Annotated[str, typer.Option(help="Train and score this arm, and report nothing.")] = "",
    seed: Annotated[int | None, typer.Option(help="With --arm: this seed alone.")] = None,
    untimed: Annotated[
        bool, typer.Option("--untimed", help="With --arm: leave speed to a quiet machine.")
    ] = False,
    gather: Annotated[
        bool, typer.Option("--gather", help="Train nothing: report what the runs have.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Train what is missing, evaluate, compare, report."""
    if not arm and (untimed or seed is not None):
        raise ValueError("--seed and --untimed say how one --arm is run; name it, or use --seeds")
    words = [*(overrides or []), *([f"seeds={list(range(seeds))}"] if seeds else [])]
    if arm:
        with fast_imports():
            from unify.study.run_study import run_one

        return run_one(str(file), words, arm, seed, say, tiny, untimed)
    if dry_run:
        from unify.study.arms import budgeted
        from unify.study.run_study import jobs as planned_jobs

        runs = planned_jobs(*budgeted(str(file), words, tiny))
        emit([{"arm": a, "seed": s, "steps": c["steps"]} for a, s, c in runs])
        return 0
    with fast_imports():
        from unify.study.run_study import run_study

    outcome = run_study(
        str(file), words, lambda text: typer.echo(text, err=as_json), tiny, jobs, only, gather
    )
    emit(outcome.rows) if as_json else _tell(outcome)
    for name, message in outcome.failed.items():
        typer.echo(f"failed: {name}: {message}", err=True)
    return 1 if outcome.failed else 0


def _tell(outcome: Any) -> None:
    """What a study found, and where it is written."""
    from unify.report.console import print_results

    print_results(outcome.rows)
    typer.echo(f"report:  {outcome.folder / 'report.html'}")
    typer.echo(f"results: {outcome.folder / 'results.json'}")
    typer.echo(f"MLflow:  {outcome.mlflow}")


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="YAML files: experiments, parts, studies.")],
    as_json: Json = False,
) -> int:
    """Check configurations without building anything; all errors at once."""
    with fast_imports():
        from unify.config import check_file

    problems = {str(file): check_file(str(file)) for file in files}
    if as_json:
        emit({file: [vars(p) for p in found] for file, found in problems.items()})
    else:
        for file, found in problems.items():
            typer.echo(f"{file}: {'ok' if not found else ''}".rstrip())
            for problem in found:
                typer.echo(f"  {problem}")
    return 1 if any(problems.values()) else 0


@app.command()
def report(
    study: Annotated[Path, typer.Argument(help="Study folder, e.g. runs/quickstart.")],
    mlflow: Annotated[str, typer.Option(help="URI: fetch the study from there first.")] = "",
) -> int:
    """Write the study's report.html again; with --mlflow, from what a server has of it."""
    from unify.report.page import write_report

    if mlflow:
        from unify.study.mlflow_study import fetch_study

        fetch_study(mlflow, study.name, study.parent)
    typer.echo(str(write_report(study)))
    return 0


@app.command()
def findings(
    folder: Annotated[Path, typer.Argument(help="Folder of studies, e.g. runs.")],
) -> int:
    """Print what became of every claim that the studies wrote down, as Markdown."""
    from unify.report.findings import findings as collect

    typer.echo(collect(folder), nl=False)
    return 0


@app.command()
def bench(
    file: Annotated[Path | None, typer.Argument(help="Experiment YAML; none: the trunk.")] = None,
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(help="Measured steps.")] = 10,
    as_json: Json = False,
) -> int:
    """Measure step time, tokens/s, memory, overhead, start-up and shard reading."""
    from unify.speed.measure import bench as measure
    from unify.speed.measure import lines

    figures = measure(str(file) if file else None, overrides or [], steps)
    emit(figures) if as_json else typer.echo("\n".join(lines(figures)))
    return 0


@app.command()
def doctor(
    runs: Annotated[Path, typer.Option(help="Folder of runs to try.")] = Path("runs"),
    tracker: Annotated[str, typer.Option(help="MLflow URI to try; empty: sqlite there.")] = "",
    as_json: Json = False,
) -> int:
    """Check versions, devices, ranks, disk, tracker and SLURM, and say what to do."""
    from unify.doctor import as_data, diagnose

    found = diagnose(runs, tracker, (lambda _: None) if as_json else typer.echo)
    if as_json:
        emit(as_data(found))
    return int(any(finding.state == "problem" for finding in found))


run_commands.add_commands(app)
plan_command.add_commands(app)
cluster_commands.add_commands(app)

if __name__ == "__main__":
    main()
