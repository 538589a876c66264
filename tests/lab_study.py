"""A study for the tests that send it to SLURM."""

import yaml
from places import EXPERIMENTS


def study(folder, **printed):
    """A study of two runs that need nothing trained before."""
    path = folder / "lab.yaml"
    whole = {
        "name": "lab",
        "arms": {"transfusion": str(EXPERIMENTS / "transfusion.yaml")},
        "seeds": [0, 1],
        "set": {"machine": {"runs": str(folder / "runs"), "tracker": "none"}},
        **printed,
    }
    path.write_text(yaml.safe_dump(whole))
    return str(path)
