"""Scores at a few steps of a training, and that they change nothing of it."""

import yaml
from places import EXPERIMENTS

from unify.config import load_recipe, load_study
from unify.runs.equal_training import trains_like
from unify.runs.journal import Journal
from unify.training.score_curve import with_curve_metrics
from unify.training.train_run import train

METRIC = "text_to_image/exact"
SCORES = {"metrics": [METRIC, "no/such"], "at": [0.5, 1.0], "evaluation": {"prompts": 4}}
IMAGES = {"class": "unify.metrics.shapes_images.TextToImage", "prompts": 99, "geneval": 0}


def recipe(folder, **logging):
    more = {"evaluation": [IMAGES], "logging": {"metrics_every": 1, **logging}}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"base": str(EXPERIMENTS / "transfusion.yaml"), **more}))
    words = [f"machine.runs={folder}", "machine.tracker=none", "steps=4", "image_sampling.steps=2"]
    return load_recipe(str(path), words, tiny=True)


def test_a_run_that_is_scored_on_the_way_ends_with_the_same_weights(tmp_path):
    runs = {}
    looks = {"scores": SCORES, "samples_every": 2, "validation_rows": 2}
    for name, logging in (("plain", {}), ("scored", looks)):
        (tmp_path / name).mkdir()
        runs[name] = train(recipe(tmp_path / name, **logging), lambda text: None)
    plain, scored = (Journal(runs[name].folder) for name in ("plain", "scored"))
    assert runs["plain"].folder.name == runs["scored"].folder.name, "it is no part of the hash"
    assert runs["plain"].weights == runs["scored"].weights
    assert plain.records("train") == scored.records("train")
    read, cut = ([run.info[key] for run in runs.values()] for key in ("texts_read", "texts_cut"))
    assert (read[0], cut[0]) == (read[1], cut[1]), "texts of training alone"
    assert plain.records("curve") == []
    curve = scored.records("curve")
    assert [record["step"] for record in curve] == [2, 4]
    assert all(record.keys() == {"step", "kind", METRIC} for record in curve)
    assert all(0 <= record[METRIC] <= 1 for record in curve)


def test_metrics_ask_validation_data_and_nothing_that_is_held_out(tmp_path):
    config, count = with_curve_metrics(recipe(tmp_path, scores=SCORES))
    assert count == 1
    final, own = config["evaluation"]
    assert (final["split"], final["prompts"]) == ("test", 99)
    assert (own["split"], own["prompts"], own["heldout"], own["sealed"]) == (
        "validation", 4, 0, None,
    )  # fmt: skip
    assert with_curve_metrics(recipe(tmp_path))[1] == 0


def test_the_rule_of_a_study_lets_its_arms_be_scored(tmp_path):
    arms = {"a": str(EXPERIMENTS / "transfusion.yaml")}
    study = {"name": "s", "arms": arms, "primary": [METRIC], "set": {"evaluation": [IMAGES]}}
    rules = {"without": {}, "with": {"learned": {"evaluation": {"prompts": 8}}}}
    configs = {}
    for name, rule in rules.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**study, **rule}))
        configs[name] = load_study(path)[1]["a"]
    at = [0.25, 0.5, 0.75, 1.0]
    wanted = {"metrics": [METRIC], "at": at, "evaluation": {"prompts": 8}}
    assert configs["with"]["logging"]["scores"] == wanted
    assert not trains_like(configs["with"], configs["without"]), "its journal has no scores"
    older = {**configs["without"], "logging": dict(configs["without"]["logging"])}
    del older["logging"]["scores"]
    assert trains_like(older, configs["without"]), "a run from before there was the key"
