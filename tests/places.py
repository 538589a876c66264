"""Where the repository's parts lie."""

import os
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
EXPERIMENTS = ROOT / "experiments"
PYTHONPATH = os.pathsep.join(map(str, (TESTS, ROOT)))  # a fork server does not get pytest's
