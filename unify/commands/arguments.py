"""Options that several commands have, and how commands print."""

from typing import Annotated, Any

import typer

from unify.support.stop_protocol import named_output

Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value, e.g. model.trunk.depth=6 steps=200")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Tiny = Annotated[bool, typer.Option("--tiny", help="Merge the file's `tiny:` block.")]


def echo(text: str, err: bool = False, nl: bool = True) -> None:
    """Print a line, or a text without `nl`. LostOutput where it cannot be written."""
    with named_output(err):
        typer.echo(text, err=err, nl=nl)


def say(text: str) -> None:
    """Print a line on the first rank alone."""
    from unify.distributed.ranks import world

    if world().rank == 0:
        echo(text)


def emit(content: Any) -> None:
    """Print JSON; NaN is null."""
    from unify.support.strict_json import strict_json

    echo(strict_json(content))
