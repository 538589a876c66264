"""`unify train | check`: one experiment, and whether a file is right. Heavy imports are inside."""

from pathlib import Path
from typing import Annotated

import typer

from unify.commands.arguments import Json, Overrides, Tiny, emit, say
from unify.support.fast_imports import fast_imports
from unify.support.terminal import echo


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
        echo(dump(completed))
        return 0
    with fast_imports():
        from unify.distributed.local_launch import spawn, spawns
        from unify.runs.folder import finished_or_stopped
        from unify.training.train_run import train as train_run

    if spawns(completed["machine"]):
        return spawn(completed["machine"]["devices"], echo)
    run = finished_or_stopped(train_run(completed, echo))
    say(f"run: {run.folder}")
    return 0


def check(
    files: Annotated[list[Path], typer.Argument(help="YAML files: experiments, parts, studies.")],
    as_json: Json = False,
) -> int:
    """Check configurations, all errors at once; nothing is built."""
    with fast_imports():
        from unify.config import check_file

    problems = {str(file): check_file(str(file)) for file in files}
    if as_json:
        emit({file: [vars(p) for p in each] for file, each in problems.items()})
    else:
        for file, each in problems.items():
            echo(f"{file}: {'' if each else 'ok'}".rstrip())
            for problem in each:
                echo(f"  {problem}")
    return 1 if any(problems.values()) else 0
