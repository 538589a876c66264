"""answers.json: as its schema says, strict JSON, and what the page shows."""

import html
import json
import math
import re

import numpy as np
import pytest
from report_study import edit_json, write_results, write_study

from unify.answers.answers_json import SCHEMA, VERSION, answers_content
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.answers.words import p_value, signed
from unify.report.page import write_report

TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
    "number": (int, float), "null": type(None),
}  # fmt: skip


def check(value, rule, root, place="answers"):
    """A value against the words of JSON Schema that the schema uses; an unknown word is refused."""
    known = {
        "$ref", "$schema", "$defs", "title", "description", "type", "enum", "const", "anyOf",
        "properties", "required", "additionalProperties", "items", "minItems", "maxItems",
        "minimum",
    }  # fmt: skip
    assert set(rule) <= known, set(rule) - known
    if "$ref" in rule:
        target = root
        for part in rule["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        check(value, target, root, place)
    if "anyOf" in rule:
        fitting = 0
        for choice in rule["anyOf"]:
            try:
                check(value, choice, root, place)
            except AssertionError:
                continue
            fitting += 1
        assert fitting, place
    if "type" in rule:
        names = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
        fitting = [name for name in names if isinstance(value, TYPES[name])]
        if isinstance(value, bool):  # Python's are integers
            fitting = [name for name in fitting if name == "boolean"]
        assert fitting, (place, value)
    assert value in rule.get("enum", [value]), (place, value)
    assert value == rule.get("const", value), (place, value)
    if isinstance(value, list):
        assert rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", math.inf), place
        for i, each in enumerate(value):
            check(each, rule.get("items", {}), root, f"{place}[{i}]")
    if isinstance(value, dict):
        named = rule.get("properties", {})
        assert set(rule.get("required", [])) <= set(value), (place, set(value))
        for key, each in value.items():
            other = rule.get("additionalProperties", {})
            assert key in named or other is not False, f"{place}.{key} is not in the schema"
            check(each, named.get(key, other), root, f"{place}.{key}")


def strict(path):
    """JSON as other parsers read it: NaN and Infinity are errors."""

    def refuse(word):
        raise AssertionError(f"{path.name} has {word}")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("runs") / "six", seeds=tuple(range(6)), steps=20)
    rows = json.loads((folder / "results.json").read_text())
    for row in rows:
        if (row["metric"], row["arm"], row["seed"]) == ("caption/exact", "ar_vq", 2):
            row["value"] = math.nan
    write_results(folder, rows)
    arms = {"metric": "text_to_image/exact", "higher": "ar_vq", "lower": "transfusion"}
    about = {"paper": "A et al.", "says": "codes draw better"}
    same = {"arm": "transfusion", "expect": "same", "than": "ar_vq", "metric": "vqa/accuracy"}
    edit_json(
        folder / "study.json",
        claims=[{**about, **arms}, {**about, **arms, "metric": "no/such"}],
        primary=["text_to_image/exact", "vqa/accuracy", "caption/exact", "no/such"],
    )
    write_report(folder)
    kept = json.loads((folder / "study.json").read_text())
    edit_json(folder / "study.json", controls=[{**same, "margin": 0.05}, same])
    with_controls = answers_content(study_answers(load_study(folder)))
    (folder / "study.json").write_text(json.dumps(kept))
    return folder, with_controls


def test_answers_fit_their_schema(study):
    folder, with_controls = study
    schema = json.loads(SCHEMA.read_text())
    answers = strict(folder / "answers.json")
    check(answers, schema, schema)
    assert answers["version"] == VERSION == schema["properties"]["version"]["const"]
    assert len(answers["differences"]) > 8
    assert with_controls["controls"]
    check(json.loads(json.dumps(with_controls)), schema, schema)
    for spoiled in ({**answers, "version": 2}, {**answers, "arms": [1]}, {**answers, "more": 0}):
        with pytest.raises(AssertionError):
            check(spoiled, schema, schema)


def test_scaling_answers_fit_the_schema(tmp_path):
    from test_sizes_and_budgets import written

    schema = json.loads(SCHEMA.read_text())
    folder = written(tmp_path / "scale", seeds=(0, 1, 2)).folder
    write_report(folder)
    answers = strict(folder / "answers.json")
    check(answers, schema, schema)
    assert {one["where"] for one in answers["best_sizes"]} == {"inside"}
    assert [one["arm"] for one in answers["growths"]] == ["slow", "fast"]
    assert answers["crossings"][0]["budget"] == pytest.approx(4e15, rel=0.05)
    assert answers["interactions"][0]["eta_squared"]["arm"] > 0


def test_the_page_and_the_tables_show_the_numbers_of_the_answers(study):
    folder, _ = study
    answers = strict(folder / "answers.json")
    page = (folder / "report.html").read_text().split('id="differences"')[1]
    page = html.unescape(re.sub(r"<[^>]*>", "", page))
    text = (folder / "report.md").read_text()
    shown = [one for one in answers["differences"] if one["estimate"] is not None]
    assert len(shown) > 8
    for one in shown:
        cell = signed(one["estimate"])
        if one["interval"] is not None:
            cell += " [{}, {}]".format(*map(signed, one["interval"]))
        assert cell in page, one["metric"]
        if not one["primary"]:
            continue
        assert cell in text
        for places in (page, text):
            assert one["verdict"] is None or one["verdict"] in places
            assert one["adjusted_p"] is None or p_value(one["adjusted_p"]) in places
            assert one["sign_flip_p"] is None or p_value(one["sign_flip_p"]) in places
            for end in one["simultaneous"] or []:
                assert signed(end) in places
    for one in answers["differences"]:
        assert all(note in page for note in one["notes"])
        assert one["estimate"] is not None or one["reason"] in page
    for claim in answers["claims"]:
        assert claim["judgement"] in text


def test_a_difference_says_all_that_it_was_made_of(study):
    folder, _ = study
    answers = strict(folder / "answers.json")
    clear, untold, nan, absent = (one for one in answers["differences"] if one["primary"])
    assert (clear["verdict"], clear["reason"], clear["direction"]) == ("higher", "", "higher")
    assert clear["seeds"] == list(range(6))
    assert clear["prompts"] == {"n": 512, "digest": "5f1c0d9e22aa"}
    assert clear["method"] == "crossed model, 6 seeds x 512 prompts"
    assert clear["estimate"] == pytest.approx(np.mean(clear["by_seed"]))
    assert clear["simultaneous"][0] < clear["interval"][0] < clear["estimate"]
    assert clear["sign_flip_p"] == clear["least_sign_flip_p"] == 2 / 64
    assert (clear["detectable"], clear["seeds_needed"]) == (None, None), "it was found"
    assert untold["verdict"] == "not distinguishable at this budget"
    assert untold["detectable"] > 0
    assert untold["seeds_needed"][0] > 6
    assert untold["seeds_needed"][1] is None, "no difference at all is possible"
    assert nan["seeds"] == [0, 1, 3, 4, 5]
    assert any("seed 2 left out" in note for note in nan["notes"])
    assert absent["reason"] == "not measured: ar_vq and transfusion have no score"
    assert absent["estimate"] is absent["interval"] is absent["verdict"] is None
    assert {one["adjusted_p"] for one in answers["differences"] if not one["primary"]} == {None}


@pytest.mark.slow
def test_equal_answers_give_equal_bytes(study):
    folder, _ = study
    before = (folder / "answers.json").read_bytes()
    write_report(folder)
    assert (folder / "answers.json").read_bytes() == before
