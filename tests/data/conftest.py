"""Fixtures of the data tests."""

import pytest
from tar_shards import pairs, tar

from unify.data.adapters.index import index_folder


@pytest.fixture
def folder(tmp_path):
    """Two shards of 6 records."""
    out = tmp_path / "data"
    out.mkdir()
    tar(out / "shard-000000.tar", pairs(6))
    tar(out / "shard-000001.tar", pairs(6, start=6))
    index_folder(out)
    return out
