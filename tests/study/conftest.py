"""Study files that tests of this folder add their own keys to."""

import pytest
import yaml
from places import EXPERIMENTS


@pytest.fixture
def study(tmp_path):
    """study(grid=..., ...) writes a study of two arms; returns its path."""

    def write(names=("ar_vq", "transfusion"), **more):
        arms = {name: str(EXPERIMENTS / f"{name}.yaml") for name in names}
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({"name": "s", "arms": arms, **more}, sort_keys=False))
        return str(path)

    return write


@pytest.fixture
def five(study):
    """five(budget=..., ...) writes a study of all five paradigms."""
    names = ("ar_vq", "transfusion", "dual_tower", "queries_dit", "crossflow")
    return lambda **more: study(names, **more)
