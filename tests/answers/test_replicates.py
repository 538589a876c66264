"""What seeds of an arm share, as their runs recorded it, and what the report says of it."""

import json

import pytest
from report_study import edit_json, write_study

from unify.answers.difference_cells import CONDITIONAL, limits_text
from unify.answers.not_matched import not_matched
from unify.answers.replicates import shared_parts, shared_text, whole_text
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.answers.summary import summary

ARMS = ("ar_vq", "transfusion")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "two", seeds=(0, 1, 2), steps=20)


def start_from(folder, parts, **facts):
    """Write into each run what it started from: `parts(arm, seed)` gives (name, folder, hash)."""
    for path in folder.glob("*/run.json"):
        info = json.loads(path.read_text())
        needed = {
            f"/x/{name}.yaml": {"name": name, "folder": f"/runs/tokenizers/{place}", "hash": digest}
            for name, place, digest in parts(info["arm"], info["seed"])
        }
        edit_json(path, needed=needed, **facts)
    return load_study(folder)


def own(arm, seed):
    """A vocabulary that comes out alike each time, and a tokenizer that does not."""
    name = "vq" if arm == "ar_vq" else "vae"
    return [("text", f"text-s{seed}-{seed}a", "same"), (name, f"{name}-s{seed}-b", f"{seed}{name}")]


def test_whole_pipelines_are_said_to_be_so_and_what_they_share_all_the_same(folder):
    edit_json(folder / "study.json", replicate="all", tune={"metric": "x"})
    study = start_from(folder, own, exports={})
    assert shared_parts(study) == {}, "equal weights of two trainings are no shared one"
    text = limits_text(study, [])
    assert text.startswith("Each seed is a whole pipeline: the arm, and the tokenizers and other")
    assert "trained and tuned anew" in text
    assert "one draw" not in text
    assert "each seed a pipeline of its own" in summary(study_answers(study))
    (parts,) = (line for line in not_matched(study) if line.startswith("Tokenizers"))
    assert "ar_vq text same and vq (3 trainings)" in parts

    study = start_from(folder, own, exports={"/weights/llm": "0123"})
    assert shared_parts(study) == {arm: ["llm"] for arm in ARMS}
    assert "seeds of ar_vq and transfusion started from one llm: that is one draw" in whole_text(
        study
    )


def test_what_all_seeds_share_is_named_where_it_is_one_draw(folder):
    edit_json(folder / "study.json", replicate="arm", tune=None)
    study = start_from(folder, lambda arm, seed: own(arm, 0), exports={})
    assert shared_parts(study) == {"ar_vq": ["text", "vq"], "transfusion": ["text", "vae"]}
    assert limits_text(study, []) == f"{CONDITIONAL} {shared_text(study)}"
    assert shared_text(study).endswith("here: text, vq and vae.")
    assert "pipeline" not in summary(study_answers(study))


def test_arms_that_share_the_parts_of_each_seed_are_matched_in_them(folder):
    edit_json(folder / "study.json", replicate="all")
    study = start_from(folder, lambda arm, seed: own("ar_vq", seed), exports={})
    assert not any(line.startswith("Tokenizers") for line in not_matched(study))
    study = start_from(folder, lambda arm, seed: own("ar_vq", seed + (arm == "ar_vq")), exports={})
    assert any(line.startswith("Tokenizers") for line in not_matched(study)), "another seed's"
