"""The hash of a run: it covers all that decides what is trained, and nothing else."""

from config_parts import PARTS, needing

from unify.config import Needed, config_hash, load_recipe, needed_key, needed_runs


def test_a_needed_run_may_be_trained_under_other_seeds(folder):
    path, run = needing(folder, "{run: codec.yaml}"), str(folder / "codec.yaml")
    plain, other = (load_recipe(path, [f"model.codec.weights.seed={seed}"]) for seed in (0, 2))
    assert plain == load_recipe(path), "seeds as the file says them"
    assert other["model"]["codec"]["channels"] == 6, "still of the run"
    key = needed_key(other["model"]["codec"]["weights"])
    assert needed_runs(other) == {key: Needed(run, seed=2)}
    assert config_hash(other, {key: "0123456789"}, "data") != config_hash(
        plain, {run: "9876543210"}, "data"
    )
    assert config_hash(other, {key: "0123456789"}, "data") == config_hash(
        plain, {run: "0123456789"}, "data"
    ), "the weights count, not where they come from"


def test_hash_ignores_machine_key_order_scoring_and_places_of_files(folder, tmp_path_factory):
    path = needing(folder, "{run: codec.yaml}")
    completed = load_recipe(path)
    needed = {str(folder / "codec.yaml"): "0123456789"}
    digest = config_hash(completed, needed, "data")
    assert len(digest) == 10
    words = ["machine.devices=2", "logging.metrics_every=1", "name=x", "study=y", "evaluation=[]"]
    words += [
        "image_sampling.steps=3",
        "tiny={}",
        "data.source.folder=moved",
        "optimizer.eps=0.00000001",
    ]
    assert config_hash(load_recipe(path, words), needed, "data") == digest
    backwards = dict(reversed(completed.items()))
    assert config_hash(backwards, needed, "data") == digest
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "parts.py").write_text(PARTS)
    moved = load_recipe(needing(elsewhere, "{run: codec.yaml}"))
    assert config_hash(moved, {str(elsewhere / "codec.yaml"): "0123456789"}, "data") == digest


def test_hash_covers_numbers_seeds_needed_runs_and_data(folder):
    path = needing(folder, "{run: codec.yaml}")
    run = str(folder / "codec.yaml")

    def digest(*words: str, needed: str = "a", data: str = "d") -> str:
        return config_hash(load_recipe(path, words), {run: needed}, data)

    changes = [
        "optimizer.lr=2e-3",
        "seeds.init=1",
        "steps=51",
        "data.tasks.caption=3",
        "model.rate=1",
    ]
    digests = [digest(), digest(needed="b"), digest(data="e"), *map(digest, changes)]
    assert len(set(digests)) == len(digests)
