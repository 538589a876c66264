"""Tables of pictures -> samples: CSV, TSV, JSON lines and Parquet.

A row has the column of an image, and those of its texts: a caption, or a question with its answer,
or, with a source image, an instruction. An empty cell is none, so one table may hold all three.
Images are files below the table's folder (or another that is named), or bytes in a Parquet table.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unify.data.adapters.grouping import Place
from unify.data.adapters.inputs import Input, Note
from unify.data.adapters.text_tables import BadRow, Csv, TableRow, encoding_of, json_rows
from unify.data.adapters.verdicts import Bad

IMAGE_COLUMNS = ("image", "file", "file_name", "filename", "filepath", "path", "image_path")
TEXT_COLUMNS = ("caption", "text", "title", "prompt")
SOURCE_COLUMN, INSTRUCTION_COLUMN = "source_image", "instruction"
QUESTIONS: tuple[str, ...] = ("question", "answer", "turns", "kind")
# What programs write into a cell that has no value: all that pandas reads back as none, and what
# databases and their tools write. Not in any case: `Na` and `Nan` are words.
NO_VALUE = {"nan", "NaN", "NAN", "-nan", "-NaN", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"}
NO_VALUE |= {"NULL", "null", "Null", "(null)", "(NULL)", "<null>", "<NULL>", "[null]", "[NULL]"}
NO_VALUE |= {"None", "none", "NONE", "N/A", "n/a", "NA", "#N/A", "#N/A N/A", "#NA", "<NA>", "\\N"}
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass
class TableOptions:
    """How a table is read.

    Args:
        image, text: columns, where their names are not the usual ones.
        delimiter, encoding: of a CSV; "" to find them.
        quotes: whether `"` at the beginning of a field of a CSV quotes it.
        root: folder that images are below, and relative to; "" for the table's.
    """

    image: str = ""
    text: str = ""
    delimiter: str = ""
    encoding: str = ""
    quotes: bool = True
    root: str = ""

    def __post_init__(self) -> None:
        self.delimiter = {"tab": "\t", "\\t": "\t"}.get(self.delimiter, self.delimiter)
        if len(self.delimiter) > 1:
            raise ValueError(f"--delimiter {self.delimiter!r}: one character, or `tab`")
        if self.delimiter in ("\n", "\r", "\0") or (self.delimiter == '"' and self.quotes):
            raise ValueError(
                f"--delimiter {self.delimiter!r}: that ends lines or quotes fields; name the "
                "character between two fields"
            )

    @property
    def images(self) -> tuple[str, ...]:
        """Columns that may name the image."""
        return (self.image,) if self.image else IMAGE_COLUMNS

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns that may have the caption."""
        return (self.text,) if self.text else TEXT_COLUMNS


def from_csv(path: Path, options: TableOptions) -> Iterator[Input | Note]:
    """Samples of a CSV or TSV. ValueError if its header lacks a column, or has one twice."""
    encoding = options.encoding or encoding_of(path)
    rows = Rows(path, options)
    table = Csv(path, encoding, options.images, options.delimiter, options.quotes, rows.is_file)
    rows.check(table.columns)
    between = {"\t": "tabs"}.get(table.delimiter, repr(table.delimiter))
    yield Note(f"{path.name}: {encoding}, fields between {between}, {rows.columns(table.columns)}")
    like_rows: list[int] = []
    for row in table.rows():
        if isinstance(row, TableRow) and row.like_rows:
            like_rows.append(row.number)
        yield rows.sample(row)
    if like_rows:
        yield Note(
            f"{path.name}: {len(like_rows)} in quotes over several lines, each with as many fields "
            f"as the header, the first at line {like_rows[0]}: if a quote was left open there, "
            "those are rows that are missing"
        )


def from_json_lines(path: Path, options: TableOptions) -> Iterator[Input | Note]:
    """Samples of JSON lines. ValueError at the end if no row had a column of images."""
    rows, names = Rows(path, options), Counter[str]()
    for row in json_rows(path, options.encoding or encoding_of(path)):
        if isinstance(row, TableRow) and len(names) < 100:
            names.update(row.values.keys())
        yield rows.sample(row)
    if names and not names.keys() & set(options.images):
        raise ValueError(_no_column(path, options.images, list(names)))


def _no_column(path: Path, wanted: tuple[str, ...], columns: list[str]) -> str:
    return (
        f"{path} has no column {' or '.join(wanted)}; it has {', '.join(columns)}. "
        "Name the right one with --image or --text"
    )


@dataclass
class Rows:
    """Rows of one table -> samples."""

    path: Path
    options: TableOptions
    unit: str = ""  # before the number in an origin
    roots: list[str] = field(init=False)

    def __post_init__(self) -> None:
        root = Path(self.options.root or self.path.parent)
        # As it was named, and as links in that name lead: tables have absolute paths of both kinds.
        self.roots = [os.path.abspath(root), os.path.realpath(root)]

    def check(self, columns: list[str]) -> None:
        """ValueError for a header without the columns of image and text, or with one twice."""
        for wanted in (self.options.images, (*self.texts(True), *QUESTIONS)):
            if not set(wanted) & set(columns):
                wanted = wanted if wanted == self.options.images else self.options.texts
                raise ValueError(_no_column(self.path, wanted, columns))
        used = {*self.options.images, *self.texts(True), *QUESTIONS, SOURCE_COLUMN}
        for name, times in Counter(columns).items():
            if times > 1 and name in used:
                raise ValueError(
                    f"{self.path} has {times} columns {name!r}: give all but one another name"
                )

    def texts(self, edit: bool) -> tuple[str, ...]:
        """Columns that may have the text: of an edit, its instruction comes first."""
        return (INSTRUCTION_COLUMN, *self.options.texts) if edit else self.options.texts

    def columns(self, columns: list[str]) -> str:
        """Which columns are read, for the report."""
        kinds = (self.options.images, self.options.texts)
        used = [" or ".join(n for n in kind if n in columns) for kind in kinds]
        used += [n for n in (SOURCE_COLUMN, INSTRUCTION_COLUMN, *QUESTIONS) if n in columns]
        return f"columns {', '.join(name for name in used if name)}"

    def sample(self, row: TableRow | BadRow) -> Input:
        """The sample of a row, or the reason why it has none."""
        origin = f"{self.path.name}:{self.unit}{row.number}"
        if isinstance(row, BadRow):
            return Input(origin, "", {}, row.bad)
        try:
            return self._sample(origin, row)
        except Bad as bad:
            return Input(origin, "", {}, bad)
        except (ValueError, TypeError, RecursionError) as error:  # a NUL in a path, endless nesting
            return Input(origin, "", {}, Bad("bad_row", f"{type(error).__name__}: {error}"))

    def _sample(self, origin: str, row: TableRow) -> Input:
        image = _first(row.values, self.options.images)
        if _none(image):
            told = (
                "" if _has(row.values, self.options.images) else f"; it has {', '.join(row.values)}"
            )
            raise Bad("missing_image", f"no file is named{told}")
        named = row.values.get("key")
        key, file = self._image(image, "image", str(row.number if _none(named) else named))
        parts: dict[str, Place | bytes] = {"image": file}
        source = row.values.get(SOURCE_COLUMN)
        if not _none(source):
            parts["source"] = self._image(source, "source", "")[1]
        texts = self.texts("source" in parts)
        if texts[0] in row.values and "source" in parts:
            texts = texts[:1]  # a caption beside an empty instruction says nothing of the edit
        parts |= _words(row, texts, "source" in parts)
        return Input(origin, key, parts)

    def _image(self, value: Any, part: str, number: str) -> tuple[str, Place | bytes]:
        """Key and place of an image: a path, bytes, or {bytes, path}, as Hugging Face writes it."""
        name = value
        if isinstance(value, dict):
            name, value = value.get("path"), value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return (_key(name) if isinstance(name, str) and name else number), value
        if not isinstance(value, str):
            raise Bad(f"missing_{part}", f"{type(value).__name__} instead of a file's name")
        if ADDRESS.match(value):
            why = "an address, and nothing is downloaded; fetch it first, e.g. with img2dataset"
            raise Bad(f"missing_{part}", f"{value[:200]} is {why}")
        return _key(value), Place(self._inside(value), name=value)

    def _inside(self, file: str) -> Path:
        """The path of a file that a row names; Bad if it leads out of the folder."""
        path = os.path.normpath(os.path.join(self.roots[0], file))
        if not any(path.startswith(os.path.join(root, "")) for root in self.roots):
            why = "name the folder that all are below with --root"
            raise Bad("outside_path", f"{file} is not below {self.roots[0]}; {why}")
        return Path(path)

    def is_file(self, name: str) -> bool:
        """Whether a file of this name is there."""
        return os.path.isfile(os.path.join(self.roots[0], name))


def _key(file: str) -> str:
    return str(Path(file).with_suffix("")).lstrip("./")


def _words(row: TableRow, texts: tuple[str, ...], edit: bool) -> dict[str, Place | bytes]:
    """The parts txt and json of a row, judged later as those of files."""
    meta = {name: row.values[name] for name in QUESTIONS if not _none(row.values.get(name))}
    if "question" in meta and "answer" in row.values:
        meta["answer"] = _answer(row.values["answer"])  # none is a fault of the question's
    if isinstance(meta.get("turns"), list):
        meta["turns"] = [_turn(turn) for turn in meta["turns"]]
    text = _first(row.values, texts)
    if isinstance(text, str) and _none(text) and text.strip():
        text = None
    if row.short:
        lacks = not meta and text is None
        why = "the row has fewer fields than the header"
        raise Bad("missing_caption" if lacks else "ragged_row", why)
    out: dict[str, Place | bytes] = {}
    if not edit and _none(text) and not _none(row.values.get(INSTRUCTION_COLUMN)):
        meta |= {"instruction": row.values[INSTRUCTION_COLUMN]}  # there is no image to follow it on
    elif isinstance(text, str) and (text.strip() or not meta or edit):
        out["txt"] = text.encode("utf-8", "surrogatepass")
    elif not _none(text) or text is None:
        meta |= {"instruction" if edit else "caption": text}  # not a text, or absent
    if meta:
        out["json"] = json.dumps(meta).encode()
    return out


def _answer(value: Any) -> Any:
    """An answer, or None. To a question, `None` is an answer as good as `two`."""
    said = isinstance(value, str) and value.strip().lower() in ("", "none")  # "" is a verdict's
    return None if _none(value) and not said else value


def _turn(turn: Any) -> Any:
    """A question with its answer from a list of these."""
    if not isinstance(turn, dict):
        return turn
    question, answer = turn.get("question"), _answer(turn.get("answer"))
    return turn | {"question": None if _none(question) else question, "answer": answer}


def _first(values: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The value of the first of the columns that has one; what the first that is there has."""
    there = [values[name] for name in names if name in values]
    return next((value for value in there if not _none(value)), there[0] if there else None)


def _has(values: dict[str, Any], names: tuple[str, ...]) -> bool:
    return any(name in values for name in names)


def _none(value: Any) -> bool:
    """True for no value: null, an empty text, or what programs write for none."""
    if isinstance(value, str):
        value = value.strip()
        return not value or value in NO_VALUE
    return value is None or _nan(value)


def _nan(value: Any) -> bool:
    return isinstance(value, float) and value != value
