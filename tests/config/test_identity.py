"""The hash of a run: it covers all that decides what is trained, and nothing else."""

import hashlib
import json
import os

from config_parts import GOOD, PARTS, needing
from places import EXPERIMENTS

from unify.config import (
    OUTSIDE_HASH,
    Needed,
    config_hash,
    load,
    load_recipe,
    needed_key,
    needed_runs,
    trained_code,
)


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


LATER = {"understand": None, "time_token": False, "align": None, "references": "order"}


def hash_before_code_counted(completed, needed_hashes, data_fingerprint):
    """The formula of before users' code was hashed, for configs that name no weights folder."""

    def identity(value):
        if isinstance(value, list):
            return [identity(item) for item in value]
        if not isinstance(value, dict):
            return value
        out = {key: identity(item) for key, item in value.items()}
        if "class" in value:
            out["class"] = os.path.basename(value["class"])
            if value["class"].endswith(".RotaryEncoder"):
                out["definition"] = 2  # its equations changed: what was trained before is another
            for key, plain in LATER.items():
                if out.get(key, plain) == plain:  # arguments that there were not
                    out.pop(key, None)
            if isinstance(weights := value.get("weights"), dict):
                named = [weights["part"]] if "part" in weights else []
                out["weights"] = " ".join([needed_hashes[needed_key(weights)], *named])
        return out

    kept = {key: value for key, value in completed.items() if key not in OUTSIDE_HASH}
    kept["data"] = {k: v for k, v in kept["data"].items() if k != "source"}
    assert kept.pop("cooldown") is None  # keys that there were not, at their defaults
    kept["optimizer"] = dict(kept["optimizer"])
    assert kept["optimizer"].pop("schedule") == "cosine"
    text = json.dumps([identity(kept), data_fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def test_shipped_experiments_keep_the_hash_of_before_code_counted():
    paths = [*EXPERIMENTS.glob("*.yaml"), *EXPERIMENTS.glob("tokenizers/*.yaml")]
    experiments = [p for p in paths if "model" in load(p).root.value]
    assert len(experiments) > 10
    for path in experiments:
        completed = load_recipe(path)
        needed = dict.fromkeys(needed_runs(completed), "0123456789ab")
        before = hash_before_code_counted(completed, needed, "data")
        assert config_hash(completed, needed, "data") == before, path


def test_the_arguments_of_a_users_source_are_in_the_hash(tmp_path):
    """The fingerprint that it inherits does not know them."""
    inherited = "from unify.data.shapes import Shapes\n\nclass Tinted(Shapes):\n    pass\n"
    (tmp_path / "tinted.py").write_text(inherited)
    (tmp_path / "own.py").write_text(inherited + "    def fingerprint(self):\n        return ''\n")
    for file, number in (("tinted.py", 2), ("own.py", 1)):
        source = {"class": f"{tmp_path}/{file}:Tinted"}
        hashes = {
            config_hash({"data": {"source": {**source, "tint": tint}}}, {}, "fingerprint")
            for tint in (0.1, 0.9)
        }
        assert len(hashes) == number, file


def copied(folder, elsewhere, **changed):
    """A copy of the newcomer's folder with `changed` files, and its hash."""
    elsewhere.mkdir()
    text = GOOD + 'evaluation: [{class: "./scores.py:Speed"}]\n'
    text = text.replace("evaluation: [{class: ./parts.py:Speed}]\n", "")
    files = {
        "good.yaml": text.replace("./parts.py:World", "./world.py:World"),
        "parts.py": PARTS + "\nimport helper\n",
        "helper.py": "X = 1\n",
        "world.py": "from parts import *\n",
        "scores.py": "from parts import *\n",
        "unused.py": "X = 1\n",
        **changed,
    }
    for name, content in files.items():
        (elsewhere / name).write_text(content)
    completed = load_recipe(elsewhere / "good.yaml")
    return config_hash(completed, {}, "data"), completed


def test_hash_covers_the_bytes_of_users_files_and_of_what_they_import(tmp_path):
    digest, completed = copied(tmp_path, tmp_path / "a")
    assert set(trained_code(completed)) == {
        f"{tmp_path}/a/{name}.py" for name in ("parts", "world")
    }

    def other(place, **changed):
        return copied(tmp_path, tmp_path / place, **changed)[0]

    assert other("b") == digest, "files may move"
    assert other("c", **{"unused.py": "X = 2\n"}) == digest
    assert other("d", **{"scores.py": "from parts import *\n# another\n"}) == digest, "a metric"
    changed = [
        other("e", **{"parts.py": PARTS + "\nimport helper  # why\n"}),
        other("f", **{"helper.py": "X = 2\n"}),
        other("g", **{"world.py": "from parts import *\nX = 3\n"}),
    ]
    assert len({digest, *changed}) == 4


def test_an_argument_that_came_later_counts_only_where_it_says_something():
    path = EXPERIMENTS / "transfusion.yaml"

    def digest(*words):
        completed = load_recipe(path, words, tiny=True)
        return config_hash(completed, dict.fromkeys(needed_runs(completed), "a"), "data")

    eyes = "{class: unify.nn.vision.PatchEncoder, dim: 32, depth: 1, heads: 2}"
    plain = digest()
    assert digest("model.understand=null", "model.time_token=false") == plain
    others = [digest("model.time_token=true"), digest(f"model.understand={eyes}")]
    assert len({plain, *others}) == 3
