"""What commands share: options, and how they say things."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value, e.g. model.trunk.depth=6 steps=200")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Tiny = Annotated[bool, typer.Option("--tiny", help="Merge the file's `tiny:` block.")]


def say(text: str) -> None:
    """A line, said once however many ranks there are."""
    from unify.distributed.ranks import world

    if world().rank == 0:
        typer.echo(text)


def emit(content: Any) -> None:
    """As JSON."""
    import json

    typer.echo(json.dumps(content, indent=1, default=str))
