"""The table of a plan, and the same as data."""

import json

from unify.study.jobs import StudyRequest
from unify.study.plan import plan
from unify.study.plan_table import as_data, lines


def test_the_plan_is_shown_in_columns_and_as_data(five):
    planned = plan(StudyRequest(five(budget={"steps": 3}), tiny=True))
    text = "\n".join(lines(planned))
    assert "steps: matched, within 0.0%" in text
    assert "flops: not matched" in text
    assert set(as_data(planned)["arms"]) == set(planned.arms)
    json.dumps(as_data(planned))
