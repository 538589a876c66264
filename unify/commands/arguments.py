"""Options that several commands have, and how commands print."""

from typing import Annotated, Any

import typer

Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value, e.g. model.trunk.depth=6 steps=200")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Tiny = Annotated[bool, typer.Option("--tiny", help="Merge the file's `tiny:` block.")]


def say(text: str) -> None:
    """Print a line on the first rank alone."""
    from unify.distributed.ranks import world

    if world().rank == 0:
        typer.echo(text)


def emit(content: Any) -> None:
    """Print JSON; NaN is null."""
    from unify.support.strict_json import strict_json

    typer.echo(strict_json(content))
