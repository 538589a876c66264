"""Columns of an index are numpy's own file, written without holding them."""

import json

import numpy as np
import pytest

from unify.data.adapters.columns import CHUNK, COLUMNS, write_columns


@pytest.mark.parametrize("records", [0, 1, CHUNK + 3])
def test_the_file_is_the_one_that_savez_writes(tmp_path, records):
    lines = tmp_path / "records.jsonl"
    rows = (
        {"hash": n % 2**32} | ({"text": "a"} if n % 2 else {"turns": [1]}) for n in range(records)
    )
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counted = []
    write_columns(tmp_path / "columns.npz", lines, counted.append)
    arrays = dict(np.load(tmp_path / "columns.npz"))
    assert {name: array.dtype for name, array in arrays.items()} == COLUMNS
    assert len(counted) == len(arrays["hash"]) == len(arrays["start"]) - 1 == records
    assert arrays["start"][-1] == lines.stat().st_size
    np.savez(tmp_path / "expected.npz", **arrays)
    assert (tmp_path / "columns.npz").read_bytes() == (tmp_path / "expected.npz").read_bytes()
