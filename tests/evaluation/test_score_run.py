"""Scoring a run: what is kept of it."""

import numpy as np

from unify.metrics.metric import average, proportion
from unify.runs.stored_scores import pack_outcomes


def test_outcomes_are_kept_trial_by_trial(tmp_path):
    kept = [proportion("a/b", [True, False, True]), average("c", [0.5, 2.0])]
    (tmp_path / "outcomes.npz").write_bytes(
        pack_outcomes({score.metric: score.outcomes for score in kept})
    )
    with np.load(tmp_path / "outcomes.npz") as stored:
        assert stored["a/b"].tolist() == [1, 0, 1]
        assert stored["c"].tolist() == [0.5, 2]
    assert "outcomes" not in kept[0].row()
