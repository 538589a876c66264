"""`unify study` as a user meets it."""

import json

from command_line import unify


def test_dry_run_lists_the_runs():
    done = unify("study", "experiments/studies/quickstart.yaml", "--dry-run")
    arms = [job["arm"] for job in json.loads(done.stdout)]
    assert arms == ["ar_vq", "transfusion", "dual_tower", "queries_dit", "crossflow"]
