"""Arms resolved: untuned beside tuned, each with the steps of its own budget."""

from unify.study.arms import resolve_arms
from unify.study.jobs import StudyRequest

METRIC = "text_to_image/exact"


def test_arms_as_they_are_keep_their_budgets(study):
    printed = {"metric": METRIC, "trials": 2, "space": {"optimizer.lr": {"factor": 3}}}
    grid = {"budget.steps": [4, 8]}
    _, arms = resolve_arms(
        StudyRequest(study(tune={**printed, "defaults": True}, grid=grid), tiny=True)
    )
    assert len(arms) == 8
    for name, config in arms.items():
        assert config["steps"] == (4 if "steps=4" in name else 8), name
