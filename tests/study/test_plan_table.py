"""The table of a plan, and the same as data."""

import json
from types import SimpleNamespace

from unify.config import load_study
from unify.study.jobs import StudyRequest, study_jobs
from unify.study.needed_runs import needed_of
from unify.study.plan import Plan, plan
from unify.study.plan_table import as_data, lines, needed_data, needed_lines


def test_the_plan_is_shown_in_columns_and_as_data(five):
    planned = plan(StudyRequest(five(budget={"steps": 3}), tiny=True))
    text = "\n".join(lines(planned))
    assert "steps: matched, within 0.0%" in text
    assert "flops: not matched" in text
    assert set(as_data(planned)["arms"]) == set(planned.arms)
    json.dumps(as_data(planned))


def test_what_is_trained_before_the_runs_is_counted_for_each_seed(study, tmp_path):
    path = study(("queries_dit",), seeds=[0, 1, 2], replicate="all")
    done = SimpleNamespace(finished=True, info={"state": "finished", "train_seconds": 60.0})
    for replicate, count, how in (("all", 3, "each seed has its own"), ("arm", 1, "all seeds of")):
        loaded, arms = load_study(path, [f"replicate={replicate}"])
        needed = [(run, None) for run in needed_of(study_jobs(loaded, arms))]
        (printed,) = needed_lines(Plan(loaded, arms, {}, {}, needed=needed))
        assert printed.startswith(f"needed runs missing: {3 * count}; {how}"), printed
        assert all(f"{n} {count} missing" in printed for n in ("shapes_text", "shapes_vae", "vlm"))
        first = Plan(loaded, arms, {}, {}, needed=[(needed[0][0], done), *needed[1:]])
        assert "shapes_text 1 finished" in needed_lines(first)[0]
        each = needed_data(first)
        assert [len(one["for"]) for one in each] == [3 // count] * 3 * count
        left = [one["seconds_left"] for one in each if one["name"] == "shapes_text"]
        assert left == [0.0, *[60.0] * (count - 1)], "as long as under another seed"
