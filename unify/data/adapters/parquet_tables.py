"""Rows of Parquet tables as img2dataset and Hugging Face write them, a few at a time, by pyarrow.

Images are bytes, {bytes, path}, or paths of files.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unify.data.adapters.inputs import Input, Note
from unify.data.adapters.tables import QUESTIONS, SOURCE_COLUMN, Rows, TableOptions
from unify.data.adapters.text_tables import BadRow, TableRow
from unify.data.adapters.verdicts import Bad

# Columns of bytes, beside those that other tables have.
BYTES_COLUMNS = ("jpg", "jpeg", "png", "webp", "img", "image_bytes", "bytes")
ROWS = 16  # in memory at once


def from_parquet(path: Path, options: TableOptions) -> Iterator[Input | Note]:
    """Samples of a Parquet table; a row group that cannot be read is one verdict.

    ValueError if it is none, or lacks a column.
    """
    import pyarrow as arrow
    from pyarrow import parquet

    if not options.image:
        options = Options(**vars(options))
    rows = Rows(path, options, "row ")
    try:
        # Pages are read as they are needed, and not a whole column of a row group at once.
        table = parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        names, groups = table.schema_arrow.names, table.num_row_groups
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path} is no Parquet table that can be read: {error}") from error
    rows.check(names)
    used = {*options.images, *rows.texts(True), *QUESTIONS, SOURCE_COLUMN, "key"}
    columns = [name for name in names if name in used]
    yield Note(f"{path.name}: {rows.columns(names)}")
    number = 0
    for group in range(groups):
        last = number + table.metadata.row_group(group).num_rows
        try:
            for batch in table.iter_batches(ROWS, row_groups=[group], columns=columns):
                for values in _rows(batch):
                    number += 1
                    yield rows.sample(TableRow(number, values))
        except (arrow.ArrowException, OSError, ValueError) as error:
            why = f"rows {number + 1} to {last} cannot be read: {error}"
            yield rows.sample(BadRow(number + 1, Bad("broken_table", why)))
        number = last


class Options(TableOptions):
    """Options by which a column of bytes is an image too."""

    @property
    def images(self) -> tuple[str, ...]:
        return (*super().images, *BYTES_COLUMNS)


def _rows(batch: Any) -> Iterator[dict[str, Any]]:
    """Rows of a batch; a value that Python has no form for is a bad one of its own row."""
    for at in range(batch.num_rows):
        values = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                values[name] = column[at].as_py()
            except (ValueError, OverflowError) as error:  # a text that is not UTF-8
                values[name] = error
        yield values
