"""`unify demo`: from nothing to a picture, with what it should show and what it shows."""

from pathlib import Path
from typing import Annotated

import typer

from unify.commands.arguments import Overrides, say
from unify.support.fast_imports import fast_imports

DRAWN = 8  # pictures, where no prompt is given


def demo(
    overrides: Overrides = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", help="E.g. 'a red circle at the top left'; again: more."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("first_picture.png"),
    seed: Annotated[int, typer.Option(min=0, help="Of the drawing.")] = 0,
) -> int:
    """Train a small model on the embedded world, draw, and read what was drawn: a minute or so.

    It is trained once: the next call draws at once.
    """
    with fast_imports():
        from unify.config import load_recipe
        from unify.config.construction import build
        from unify.config.shipped import FOLDER
        from unify.data.shapes import Shapes
        from unify.evaluation.draw_samples import SampleRequest, sample
        from unify.evaluation.image_grids import check_own_grid, save_grid
        from unify.evaluation.read_samples import read_samples, some_prompts
        from unify.metrics.metric import Grid
        from unify.runs.folder import finished_or_stopped
        from unify.training.train_run import train

    check_own_grid(out)
    config = load_recipe(FOLDER / "demo" / "first_picture.yaml", overrides or [])
    world = build(config["data"]["source"], expect=Shapes)
    prompts = prompt or some_prompts(world, DRAWN)
    say("One object in one of four places: a model is trained to draw it, about half a minute.")
    run = finished_or_stopped(train(config, say))
    images = sample(run.folder, SampleRequest(prompts, seed=seed), say).images
    readings = read_samples(world, prompts, images)
    for one in readings:
        verdict = {True: "right", False: "wrong", None: "no caption of this world"}[one.right]
        say(f"asked: {one.asked}\n read: {one.read} ({verdict})")
    titles = [one.title for one in readings]
    save_grid(Grid("demo", images, titles, [one.right for one in readings]), out)
    tried = [one.right for one in readings if one.right is not None]
    say(f"{out}: {sum(tried)} of {len(tried)} read as asked; the run: {run.folder}")
    return 0
