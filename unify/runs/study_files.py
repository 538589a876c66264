"""Files of a study folder"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_tuning(folder: Path) -> dict[str, Any]:
    """tuning.json of a study's folder, by arm; empty where nothing has been tuned."""
    path = folder / "tuning.json"
    return json.loads(path.read_text()) if path.is_file() else {}
