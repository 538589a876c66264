"""What is printed: names, captions and messages come from files, and must not steer a terminal.

echo(text)         a line on stdout or stderr
printable(text)    for a page, a table, or another library's printing
"""

import json
import re
import sys
import traceback
import warnings

from unify.support.stop_protocol import named_output

# C0 but tab and newline, DEL and C1; marks and overrides of direction; line and paragraph
# separators, the byte order mark, tags that nothing shows; halves of surrogate pairs.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def printable(text: str) -> str:
    """The text with `\\u001b` and the like, as JSON has it, for characters that steer a terminal.

    Also those that change the direction of what follows, or cannot be seen. Tab and newline stay.
    """
    return _STEERING.sub(lambda match: json.dumps(match[0])[1:-1], text)


def one_line(text: str) -> str:
    """`printable`, with line ends and tabs as characters that are written out, too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text: the one place where a command writes to the terminal.

    LostOutput, which names stdout or stderr, where it cannot be written.
    """
    import typer

    with named_output(err):
        typer.echo(printable(text), err=err, nl=nl)


def clean_output() -> None:
    """Let warnings and uncaught errors, which name files, be printed as `printable` has them."""
    plain = warnings.formatwarning

    def clean(*args, **kwargs) -> str:
        return printable(plain(*args, **kwargs))

    warnings.formatwarning = clean
    sys.excepthook = lambda *error: echo("".join(traceback.format_exception(*error)), err=True)
