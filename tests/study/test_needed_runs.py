"""What the jobs of a study start from: shared by all seeds, or under each seed its own."""

import pytest
from places import EXPERIMENTS

from unify.config import config_hash, load_study, needed_runs
from unify.runs.lookup import needed_configs, run_of
from unify.study.jobs import replicate_of, study_jobs
from unify.study.needed_runs import check_nothing_is_shared, needed_of

WEIGHTS = "abcdef012345"


def jobs_of(path, *words):
    return study_jobs(*load_study(path, words))


def hashes(config):
    """{name: hash} of a run and of all that it starts from, as if each gave weights of its name and
    hash."""
    found, weights = {}, {}
    for key, part in needed_configs(config).items():
        below = hashes(part)
        found |= below
        weights[key] = f"weights of {below[part['name']]}"
    return found | {config["name"]: run_of(config, weights).hash}


def seeds_by_name(jobs):
    return {
        (run.config["name"], run.config["seeds"]["init"]): list(run.users)
        for run in needed_of(jobs)
    }


def test_each_seed_has_its_own_of_all_that_is_needed_and_its_arms_share_it(study):
    path = study(("queries_dit", "transfusion"), seeds=[0, 3], replicate="all")
    jobs = {(job.arm, job.seed): hashes(job.config) for job in jobs_of(path)}
    shared = {(j.arm, j.seed): hashes(j.config) for j in jobs_of(path, "replicate=arm")}
    for arm, names in (
        ("queries_dit", {"shapes_text", "vlm", "shapes_vae"}),
        ("transfusion", {"shapes_text", "shapes_vae"}),
    ):
        assert {*jobs[arm, 0]} == {*names, arm}
        for name in (*names, arm):
            assert jobs[arm, 0][name] != jobs[arm, 3][name], f"{name}: nothing is shared"
            assert jobs[arm, 0][name] == shared[arm, 0][name], "at 0 the runs that there are"
        for name in names:
            assert shared[arm, 0][name] == shared[arm, 3][name]
    for seed in (0, 3):
        first, second = jobs["queries_dit", seed], jobs["transfusion", seed]
        assert first["shapes_text"] == second["shapes_text"], "of one seed"
        assert first["shapes_vae"] == second["shapes_vae"]


def test_the_numbers_reach_what_is_needed_by_what_is_needed(study):
    """An arm, its language model, and that one's vocabulary: each with the numbers of the arm."""
    arms = {"again": {"base": str(EXPERIMENTS / "queries_dit.yaml"), "seeds": {"noise": 50}}}
    (job,) = jobs_of(study(arms=arms, seeds=[2], replicate="all"))
    parts = {part["name"]: part for part in needed_configs(job.config).values()}
    below = {part["name"]: part for part in needed_configs(parts["vlm"]).values()}
    expected = {"init": 2, "data": 2, "noise": 52}
    assert job.config["seeds"] == expected
    assert [parts["vlm"]["seeds"], below["shapes_text"]["seeds"]] == [expected, expected]
    assert below["shapes_text"] == parts["shapes_text"], "the arm reads the same vocabulary"
    levels = {run.config["name"]: run.level for run in needed_of([job])}
    assert levels == {"shapes_text": 0, "shapes_vae": 0, "vlm": 1}


def test_a_second_draw_of_an_arm_has_parts_of_its_own(study):
    file = str(EXPERIMENTS / "ar_vq.yaml")
    arms = {"one": file, "again": {"base": file, "seeds": {"init": 100, "data": 100, "noise": 100}}}
    path = study(arms=arms, seeds=[0, 1], replicate="all")
    assert seeds_by_name(jobs_of(path)) == {
        (name, seed + offset): [(arm, seed)]
        for name in ("shapes_text", "shapes_vq")
        for seed in (0, 1)
        for arm, offset in (("one", 0), ("again", 100))
    }
    shared = seeds_by_name(jobs_of(path, "replicate=arm"))
    users = [("one", 0), ("again", 0), ("one", 1), ("again", 1)]
    assert shared == {("shapes_text", 0): users, ("shapes_vq", 0): users}


def test_the_seed_of_a_tokenizer_counts_beside_that_of_the_study(study):
    path = study(
        ("ar_vq",), seeds=[0, 10], replicate="all", grid={"model.image.weights.seed": [0, 5]}
    )
    found = {seed for name, seed in seeds_by_name(jobs_of(path)) if name == "shapes_vq"}
    assert found == {0, 5, 10, 15}


def test_replicates_that_would_share_a_tokenizer_are_refused(study):
    grid = {"model.image.weights.seed": [0, 1]}
    path = study(("ar_vq",), seeds=[0, 1], replicate="all", grid=grid)
    message = (
        r"shapes_vq.yaml \(seeds: init 1.*\) would serve .*=1 under seed 0 and .*=0 under seed 1"
    )
    with pytest.raises(ValueError, match=message):
        check_nothing_is_shared(jobs_of(path))
    check_nothing_is_shared(jobs_of(path, "seeds=[0, 2]"))


def test_an_arm_at_the_seed_of_another_is_refused(study):
    file = str(EXPERIMENTS / "tokenizers" / "shapes_text.yaml")
    same = {"init": 1, "data": 1, "noise": 1}
    path = study(arms={"one": file, "again": {"base": file, "seeds": same}}, seeds=[0, 1])
    with pytest.raises(ValueError, match="one training would serve again under seed 0 and one und"):
        check_nothing_is_shared(jobs_of(path, "replicate=all"))


def test_replicates_are_scored_by_one_instrument(study, tmp_path):
    """A run that an evaluation alone starts from is the same for all."""
    vae = {"weights": {"run": str(EXPERIMENTS / "tokenizers" / "shapes_vae.yaml")}}
    file = tmp_path / "scores.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "from unify.metrics.metric import Metric\n"
        "from unify.tokenizer import ImageTokenizer\n\n"
        "@dataclass\nclass Distance(Metric):\n"
        "    encoder: ImageTokenizer\n    split: str = 'test'\n    measures = ('x',)\n"
        "    def measure(self, subject):\n        return [], []\n"
    )
    metric = {"class": f"{file}:Distance", "encoder": vae}
    for name, shared in (("ar_vq", True), ("transfusion", False)):
        path = study((name,), seeds=[0, 1], replicate="all", set={"evaluation": [metric]})
        if shared:
            found = [seed for part, seed in seeds_by_name(jobs_of(path)) if part == "shapes_vae"]
            assert found == [0]
            check_nothing_is_shared(jobs_of(path))
        else:  # it would be of one seed and of all
            with pytest.raises(ValueError, match="by the training and by the evaluation of transf"):
                needed_of(jobs_of(path))


def test_a_key_that_is_not_given_changes_no_hash_of_a_shipped_study():
    """As of configurations that have no such key, and from needed runs at their own seeds."""
    for name in ("quickstart", "tokenizers"):
        study, arms = load_study(EXPERIMENTS / "studies" / f"{name}.yaml")
        assert study.replicate == "arm"
        for config in (replicate_of(study, c, 7) for c in arms.values()):
            needed = needed_runs(config)
            weights = dict.fromkeys(needed, WEIGHTS)
            before = {key: value for key, value in config.items() if key != "needed_seeds"}
            assert config_hash(config, weights, "data") == config_hash(before, weights, "data")
            for key, part in needed_configs(config).items():
                assert {*part["seeds"].values()} == {needed[key].seed}
                assert part["needed_seeds"] is None
