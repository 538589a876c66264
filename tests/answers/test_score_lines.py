"""Score lines: what was measured alike stands in one line, in reading order."""

import math

import pytest
from report_study import ARMS, scores

from unify.answers.score_lines import Cell, score_lines


def test_unlike_passports_never_share_a_row_and_unlike_samplers_of_two_arms_do():
    rows = scores("ar_vq", 0)[:1] + scores("transfusion", 0)[:1]
    (line,) = score_lines(rows)
    assert set(line.cells) == set(ARMS)
    rows[1]["passport"] = rows[1]["passport"] | {"prompt_set": "another set"}
    first, second = score_lines(rows)
    assert (set(first.cells), set(second.cells)) == ({"ar_vq"}, {"transfusion"})
    assert "another set" in second.note
    assert "5f1c0d9e22aa" in first.note
    assert "sampler" not in first.note + second.note


def test_one_arm_under_two_samplers_is_two_rows():
    row = scores("ar_vq", 0)[0]
    other = {**row, "passport": row["passport"] | {"sampler": {"guidance": 3.0}}}
    first, second = score_lines([row, other])
    assert "3.0" in second.note
    assert first.note != second.note


def test_seeds_that_are_whole_pipelines_have_samplers_and_tokenizers_of_their_own():
    rows = []
    for seed in (0, 1):
        (row,) = scores("ar_vq", seed)[:1]
        own = {"sampler": {"guidance": 1.0 + seed}, "tokenizer": f"{seed}"}
        rows.append({**row, "passport": row["passport"] | own})
    (line,) = score_lines(rows, whole=True)
    assert [*line.cells["ar_vq"].rows] == [0, 1]
    assert len(score_lines(rows)) == 2
    rows[1]["passport"] |= {"prompt_set": "another set"}
    assert len(score_lines(rows, whole=True)) == 2, "all else must be equal"


def test_references_follow_the_accuracy_they_belong_to():
    order = [line.metric for line in score_lines(scores("ar_vq", 0)) if line.task == "vqa"]
    assert order == [
        "vqa/accuracy", "vqa/chance", "vqa/majority", "vqa/blind",
        "vqa/accuracy/count", "vqa/chance/count", "vqa/accuracy/color", "vqa/chance/color",
    ]  # fmt: skip


def test_a_ceiling_follows_the_score_that_it_is_beside():
    names = ["a/exact", "a/exact/two", "a/exact/heldout", "a/unreadable"]
    order = [*names[:2], *(f"{n}/ceiling" for n in reversed(names)), *names[2:]]
    rows = [{"arm": "x", "seed": 0, "metric": m, "value": 0.5, "n": 8} for m in order]
    lines = score_lines(rows)
    assert [line.metric for line in lines] == [
        name for score in names for name in (score, f"{score}/ceiling")
    ]
    assert [line.reference for line in lines] == [False, True] * 4
    assert lines[1].label == "ceiling"
    assert lines[5].category == "heldout"


@pytest.mark.parametrize(("key", "first", "second"), [
    ("unit", "prompts", "images"), ("better", "higher", "lower"), ("better", "higher", None),
])  # fmt: skip
def test_scores_that_state_another_unit_or_direction_never_share_a_row(key, first, second):
    row = {"metric": "x/y", "value": 0.5, "n": 8, "seed": 0, "passport": {}}
    one, other = score_lines([{**row, "arm": "a", key: first}, {**row, "arm": "b", key: second}])
    assert (len(one.cells), len(other.cells)) == (1, 1)
    assert str(first) in one.note


def test_a_name_says_where_lower_is_better():
    row = {"arm": "a", "seed": 0, "metric": "x/error", "value": 0.5, "n": 8}
    (lower,), (higher,) = (score_lines([{**row, "better": way}]) for way in ("lower", "higher"))
    assert lower.full_name == "x/error (lower is better)"
    assert higher.full_name == "x/error"


def test_several_seeds_show_mean_and_range_and_failed_seeds_are_counted():
    values = {0: 0.9, 1: 0.6, 2: math.nan}
    rows = {s: {"value": v, "n": 10, "low": 0.0, "high": 1.0} for s, v in values.items()}
    cell = Cell(rows)
    assert cell.value == pytest.approx(0.75)
    assert cell.span == (0.6, 0.9)
    assert len(cell.values) == 2
    assert Cell({0: rows[0]}).span == (0.0, 1.0)
    assert Cell({2: rows[2]}).value is None


def test_a_floor_is_a_reference_behind_the_ceiling_of_its_score():
    order = ["a/d", "a/d/floor", "a/d/b/floor", "a/d/ceiling", "a/d/b", "a/d/b/ceiling"]
    rows = [{"arm": "x", "seed": 0, "metric": m, "value": 0.5, "n": 8} for m in order]
    lines = score_lines(rows)
    assert [line.metric for line in lines] == [
        *("a/d", "a/d/ceiling", "a/d/floor"),
        *("a/d/b", "a/d/b/ceiling", "a/d/b/floor"),
    ]
    assert [line.yardstick for line in lines] == ["", "ceiling", "floor"] * 2
