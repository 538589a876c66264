from pathlib import Path

import pytest
from config_parts import fill


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the newcomer's `parts.py` and `good.yaml`."""
    return fill(tmp_path)
