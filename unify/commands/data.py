"""`unify data ...`: make and check data. Heavy imports are inside commands."""

from pathlib import Path
from typing import Annotated

import typer

from unify.commands.arguments import echo

data_app = typer.Typer(help="Make and check data.", no_args_is_help=True)


@data_app.command("import")
def import_images(
    source: Annotated[Path, typer.Argument(help="Folder, CSV, JSONL, or tars.")],
    out: Annotated[Path, typer.Argument(help="New folder of shards.")],
    image: Annotated[str, typer.Option(help="Column of the image's path or name.")] = "",
    text: Annotated[str, typer.Option(help="Column of the caption.")] = "",
) -> int:
    """Images with captions -> indexed tar shards; every bad record gets a verdict."""
    from unify.data.adapters.importer import import_images as run_import

    echo("\n".join(run_import(source, out, image=image, text=text).lines()))
    return 0


@data_app.command("check")
def check_data(
    path: Annotated[Path, typer.Argument(help="Folder of shards.")],
    repair: Annotated[bool, typer.Option("--repair", help="List good records only.")] = False,
) -> int:
    """Verify shards against their index."""
    from unify.data.adapters.importer import check as run_check

    verdict = run_check(path, repair)
    echo("\n".join(verdict.lines()))
    return 0 if verdict.ok or repair else 1


@data_app.command("emoji")
def emoji(
    out: Annotated[Path, typer.Argument(help="New folder of shards.")],
    size: Annotated[int, typer.Option(help="Side in pixels.")] = 64,
    font: Annotated[Path | None, typer.Option(help="Font file; default: where installed.")] = None,
) -> int:
    """Render the installed colour-emoji font to image-name pairs in shards."""
    from unify.data.adapters.emoji import make_emoji

    echo("\n".join(make_emoji(out, size, font).lines()))
    return 0
