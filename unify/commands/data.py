"""`unify data ...`: make, describe and check data. Heavy imports are inside commands."""

from pathlib import Path
from typing import Annotated

import typer

from unify.commands.arguments import EachOptionOnce
from unify.commands.describe import describe
from unify.support.stop_protocol import kept_if_interrupted
from unify.support.terminal import echo

data_app = typer.Typer(help="Make, describe and check data.", no_args_is_help=True)
data_app.command("describe", cls=EachOptionOnce)(describe)


@data_app.command("import", cls=EachOptionOnce)
def import_images(
    source: Annotated[Path, typer.Argument(help="Folder, CSV, JSONL, Parquet, or tars.")],
    out: Annotated[Path, typer.Argument(help="New folder of shards.")],
    image: Annotated[str, typer.Option(help="Column of the image's path or name.")] = "",
    text: Annotated[str, typer.Option(help="Column of the caption.")] = "",
    delimiter: Annotated[str, typer.Option(help="Of a CSV; `tab` is one.")] = "",
    encoding: Annotated[str, typer.Option(help="Of a table, e.g. latin-1.")] = "",
    quotes: Annotated[bool, typer.Option(help='Whether " quotes fields of a CSV.')] = True,
    root: Annotated[str, typer.Option(help="Folder that a table's images are below.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode pictures.")] = 0,
) -> int:
    """Images with captions -> indexed tar shards; every bad record gets a verdict.

    An import that was killed goes on when the same command is given again.
    """
    from unify.data.adapters.importer import import_images as run_import

    read = f"the shards of {out} that are finished are kept, and the same command goes on"
    with kept_if_interrupted(read):
        report = run_import(
            source,
            out,
            image=image,
            text=text,
            workers=workers,
            delimiter=delimiter,
            encoding=encoding,
            quotes=quotes,
            root=root,
        )
    echo("\n".join(report.lines()))
    return 0


@data_app.command("check", cls=EachOptionOnce)
def check_data(
    path: Annotated[Path, typer.Argument(help="Folder of shards.")],
    repair: Annotated[bool, typer.Option("--repair", help="List good records only.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that read unlisted shards.")] = 0,
) -> int:
    """Verify shards against their index."""
    from unify.data.adapters.importer import check as run_check

    verdict = run_check(path, repair, workers)
    echo("\n".join(verdict.lines()))
    return 0 if verdict.ok or repair else 1


@data_app.command("emoji", cls=EachOptionOnce)
def emoji(
    out: Annotated[Path, typer.Argument(help="New folder of shards.")],
    size: Annotated[int, typer.Option(min=1, help="Side in pixels.")] = 64,
    font: Annotated[Path | None, typer.Option(help="Font file; default: where installed.")] = None,
) -> int:
    """Render the installed colour-emoji font to image-name pairs in shards."""
    from unify.data.adapters.emoji import make_emoji

    echo("\n".join(make_emoji(out, size, font).lines()))
    return 0
