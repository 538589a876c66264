"""`unify eval | sample | export | sync`: use a run. Heavy imports are inside."""

from pathlib import Path
from typing import Annotated

import typer

from unify.commands.arguments import Json, each_once, emit, say
from unify.support.fast_imports import fast_imports
from unify.support.terminal import echo


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="machine.key=value, e.g. machine.devices=8", callback=each_once),
    ] = None,
    again: Annotated[bool, typer.Option(help="Measure again what is stored.")] = False,
    as_json: Json = False,
) -> int:
    """Score a finished run, on one device or several.

    Scores go to its folder and to MLflow.
    """
    with fast_imports():
        from unify.assembly.assemble import machine_of, open_run
        from unify.distributed.local_launch import spawn, spawns
        from unify.distributed.ranks import is_first
        from unify.evaluation.score_run import evaluate as evaluate_run
        from unify.report.console import print_results
        from unify.runs.cut_texts import cut_sentence
        from unify.tracking.mlflow_process import ship_scores

    machine = machine_of(run, overrides or [])
    if spawns(machine):
        return spawn(machine["devices"], lambda text: echo(text, err=as_json))
    opened, config, recipe = open_run(run, trusted_files=True, machine=machine)
    rows = evaluate_run(opened, recipe, config, again)
    if is_first():
        ship_scores(opened.folder, machine["tracker"], machine["runs"])
        emit(rows) if as_json else print_results(rows)
        if said := cut_sentence(opened.info, config):
            echo(f"{opened.folder}: {said}", err=as_json)
    return 0


def sample(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            help="key=value of its sampler, e.g. guidance=3 steps=50", callback=each_once
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", help="May be given again.")
    ] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(help="Picture to draw from; again: several.", exists=True, dir_okay=False),
    ] = None,
    negative: Annotated[str, typer.Option(help="What guidance moves away from.")] = "",
    arith: Annotated[
        str, typer.Option(help="Sum of prompts as latents instead: 'A + B - C'.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(help="Picture to write; default: samples.png, samples-2.png, ..."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    count: Annotated[int, typer.Option(min=1, help="Images per prompt.")] = 1,
) -> int:
    """Draw images with a trained run, from prompts and source images."""
    with fast_imports():
        from unify.distributed.ranks import is_first
        from unify.evaluation.draw_samples import SampleRequest
        from unify.evaluation.draw_samples import sample as draw
        from unify.evaluation.image_grids import check_own_grid, free_grid, save_grid

    check_own_grid(out := out or free_grid(Path("samples.png")))
    ask = SampleRequest(prompt or [], source or [], negative, arith, settings or [], seed, count)
    drawn = draw(run, ask, say)
    said = f"{out} (in place of the one before)" if out.exists() else str(out)
    if is_first():
        save_grid(drawn, out)
    say(said)
    return 0


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
    """Write a checkpoint's weights as safetensors; prints the folder."""
    with fast_imports():
        from unify.runs.folder import Run
        from unify.training.checkpoint_export import export as write

    echo(str(write(Run(run), checkpoint, out, raw)))


def sync(
    folder: Annotated[Path, typer.Argument(metavar="RUN|STUDY", help="Folder of a run or study.")],
    more: Annotated[list[Path] | None, typer.Argument(help="Further folders.")] = None,
    uri: Annotated[str, typer.Option(help="MLflow URI; empty: what the run's settings say.")] = "",
    register: Annotated[
        str, typer.Option(metavar="NAME", help="Make the run's weights a version of this model.")
    ] = "",
) -> int:
    """Upload what MLflow is missing of a run, or of a study and its runs."""
    from unify.tracking.sync import sync as send

    for each in [folder, *(more or [])]:
        echo(f"{send(each, uri, register)} records sent of {each.resolve().name}")
    return 0
