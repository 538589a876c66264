"""Data and noise of two runs, from what they logged."""

from pathlib import Path

from unify.answers.run_records import RunRecord
from unify.answers.same_data import data_relation, noise_relation


def reading(config=None, **tasks):
    """A run that read the samples 0, 1, 2 ... of each task, or others from a place on."""
    run = RunRecord(Path("x"), "x", 0, {}, config or {})
    run.consumed = {
        task: {count: f"{min(count, limit)}" for count in range(10, until + 1, 10)}
        for task, (until, limit) in tasks.items()
    }
    return run


def test_data_relation_is_by_task_and_after_equally_many_samples():
    both = reading(draw=(100, 100), answer=(60, 60))
    kind, text = data_relation(both, both)
    assert (kind, text) == ("identical", "draw: the same 100 samples; answer: the same 60 samples")
    kind, text = data_relation(both, reading(draw=(40, 40)))
    assert kind == "prefix"
    assert text == "draw: the same 40 samples first, of 100 and 40; only one learns answer"
    kind, text = data_relation(both, reading(draw=(100, 50), answer=(60, 60)))
    assert kind == "differs"
    assert "draw: differ within the first 60 samples; answer: the same 60" in text
    assert data_relation(both, reading(edit=(10, 10)))[0] == "not applicable"
    assert data_relation(both, reading())[0] == "not known"
    assert data_relation(both, reading(draw=(5, 5)))[0] == "not known"


def test_the_same_places_of_other_sources_are_not_the_same_data():
    one, other = (
        reading({"data": {"source": {"caption_noise": share}}}, draw=(20, 20)) for share in (0, 1)
    )
    assert data_relation(one, one)[0] == "identical"
    assert data_relation(one, other)[0] == "differs"


def test_noise_is_the_same_under_one_seed_where_rows_have_the_same_places():
    def run(seed, **tasks):
        record = reading({"seeds": {"noise": seed}, "data": {"tasks": tasks}})
        record.info["noise"] = {task: {"image1/t": "uniform"} for task in tasks}
        return record

    assert noise_relation(run(0, draw=8), run(0, draw=8, answer=4)) == "same: image1/t"
    assert noise_relation(run(0, draw=8), run(1, draw=8)) == "other seeds"
    assert noise_relation(run(0, draw=8), run(0, draw=16)) == "other rows in a step"
    assert noise_relation(run(0, draw=8), run(0, answer=8)) == "n/a"


def test_the_report_says_same_uniforms_only_of_streams_that_both_runs_drew():
    def run(**streams):
        record = reading({"seeds": {"noise": 0}, "data": {"tasks": {"draw": 8}}})
        record.info["noise"] = {"draw": streams}
        return record

    flow = {"image1/x0": "normal [4, 8, 8]", "image1/t": "uniform"}
    assert noise_relation(run(**flow), run(**flow)) == "same: image1/t, image1/x0"
    pixels = {**flow, "image1/x0": "normal [3, 32, 32]", "drop": "uniform"}
    assert noise_relation(run(**flow), run(**pixels)) == (
        "same: image1/t; of other shapes: image1/x0; one alone draws: drop"
    )
    codes = run(drop="uniform")
    assert noise_relation(run(**flow), codes).startswith("no stream in common")
    others = run(**flow)
    others.config = {**others.config, "data": {"tasks": {"draw": 8}, "source": {"records": 5000}}}
    one = run(**flow)
    for each in (one, others):
        each.__dict__["consumed"] = {"draw": {8: "0"}}
    assert noise_relation(one, others) == "other samples"
    older = run(**flow)
    del older.info["noise"]
    assert noise_relation(run(**flow), older) == "streams not logged"
