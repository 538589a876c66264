"""Options that several commands have, and how commands print."""

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from unify.support.terminal import echo


def each_once(words: list[str] | None) -> list[str]:
    """The `key=value` words; ValueError if two of them give one key."""
    from unify.config.override_words import given_twice

    if twice := given_twice(words or []):
        raise ValueError(f"{', '.join(twice)}: given twice on the command line; keep one")
    return words or []


class EachOptionOnce(TyperCommand):
    """A command that refuses an option that is given again, and of which the last would win."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        options = [param for param in order if not param.multiple and param.nargs == 1]
        for param in options:
            if options.count(param) > 1:
                raise ValueError(f"{max(param.opts, key=len)}: given more than once; keep one")
        return super().parse_args(ctx, args)


Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="key=value, e.g. model.trunk.depth=6 steps=200", callback=each_once),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Tiny = Annotated[bool, typer.Option("--tiny", help="Merge the file's `tiny:` block.")]
Against = Annotated[
    str,
    typer.Option(
        metavar="FOLDER", help="Compare with a published study, whose arms are not trained."
    ),
]


def say(text: str) -> None:
    """Print a line on the first rank alone."""
    from unify.distributed.ranks import world

    if world().rank == 0:
        echo(text)


def emit(content: Any) -> None:
    """Print JSON; NaN is null."""
    from unify.support.strict_json import strict_json

    echo(strict_json(content))  # what echo writes out is as JSON has it
