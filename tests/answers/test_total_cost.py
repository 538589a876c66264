"""FLOPs of an arm in all: its own, those of encoding, and those of every run before it, once."""

import json

import pytest
import yaml
from report_study import edit_json, write_study

from unify.answers.study_records import load_study
from unify.answers.total_cost import total_cost

FITTED = {"parameters": {"total": 0, "frozen_tokenizers": 0}}
TRAINED = {"parameters": {"total": 9, "frozen_tokenizers": 0}, "flops_per_step": 1e6}


def needed_run(runs, name, digest, needed=(), **facts):
    """A finished run of 100 steps beside the study; its entry in `needed` of others."""
    folder = runs / "before" / f"{name}-s0-{digest}"
    folder.mkdir(parents=True)
    about = {"arm": name, "seed": 0, "state": "finished", "steps": 100, "needed": list(needed)}
    (folder / "run.json").write_text(json.dumps({**about, **facts}))
    return {"name": name, "folder": f"runs/before/{folder.name}", "hash": digest}


@pytest.fixture
def folder(tmp_path):
    """`transfusion` starts from a fitted text tokenizer, a VAE and a model that needs both."""
    folder = write_study(tmp_path / "runs" / "study", steps=10)
    words = needed_run(folder.parent, "bpe", "aa", **FITTED)
    vae = needed_run(folder.parent, "vae", "bb", **TRAINED)
    llm = needed_run(folder.parent, "llm", "cc", (words, vae), **TRAINED)
    run = next(folder.glob("transfusion-*"))
    edit_json(run / "run.json", needed=[words, llm], flops_per_step=5e6)
    tasks = {"a": {"encoding": 1e5}, "b": {"encoding": 2e5}}
    card = {"parts": {}, "tasks": tasks, "loss_weights": {}}
    (run / "eval" / "card.json").write_text(json.dumps(card))
    return folder


def cost_of(folder, arm="transfusion"):
    study = load_study(folder)
    return total_cost(study, study.runs_of(arm)[0])


def test_the_total_counts_every_part_once(folder):
    cost = cost_of(folder)
    assert cost.own == 10 * 5e6
    assert cost.encoding == 10 * 3e5
    assert cost.needed == 2 * 100 * 1e6, "the VAE, which the language model needs too, and it"
    assert cost.total == cost.own + cost.encoding + cost.needed
    run = next(folder.glob("transfusion-*"))
    again = json.loads((run / "run.json").read_text())["needed"]
    edit_json(run / "run.json", needed=[*again, {"name": "vae", "hash": "bb"}])
    assert cost_of(folder) == cost, "needed by two parts"


def test_a_needed_run_that_nobody_scored_says_itself_what_it_encoded(folder):
    llm = next(folder.parent.glob("before/llm-*"))
    edit_json(llm / "run.json", parameters={"total": 9, "frozen_tokenizers": 5})
    assert cost_of(folder).needed is None
    edit_json(llm / "run.json", encoding_flops_per_step=3e5)
    assert cost_of(folder).needed == 100 * (1e6 + 1e6 + 3e5)


def test_what_only_scores_an_arm_is_no_part_of_it(folder):
    cost, run = cost_of(folder), next(folder.glob("transfusion-*"))
    reader = needed_run(folder.parent, "reader", "dd", **TRAINED) | {"scores": True}
    edit_json(
        run / "run.json", needed=[*json.loads((run / "run.json").read_text())["needed"], reader]
    )
    assert cost_of(folder) == cost
    (record,) = load_study(folder).runs_of("transfusion")
    assert [part["name"] for part in record.needed] == ["bpe", "llm"]


@pytest.mark.parametrize("lost", ["run", "its FLOPs", "card", "own FLOPs"])
def test_an_unknown_part_leaves_no_total(folder, lost):
    run, vae = next(folder.glob("transfusion-*")), next(folder.parent.glob("before/vae-*"))
    if lost == "run":
        (vae / "run.json").unlink()
        vae.rmdir()
    elif lost == "its FLOPs":
        edit_json(vae / "run.json", flops_per_step=None)
    elif lost == "card":
        (run / "eval" / "card.json").unlink()
    else:
        edit_json(run / "run.json", flops_per_step=None)
    cost = cost_of(folder)
    assert cost.total is None
    assert [cost.own, cost.encoding, cost.needed].count(None) == 1


def test_an_arm_without_frozen_parts_encodes_nothing(folder):
    run = next(folder.glob("ar_vq-*"))
    about = json.loads((run / "run.json").read_text())
    parameters = {**about["parameters"], "frozen_tokenizers": 0}
    edit_json(run / "run.json", parameters=parameters, needed=[])
    cost = cost_of(folder, "ar_vq")
    assert (cost.encoding, cost.needed, cost.total) == (0, 0, cost.own)


def test_a_run_that_only_scores_is_no_cost_of_an_arm(folder):
    before, run = cost_of(folder), next(folder.glob("transfusion-*"))
    reader = needed_run(folder.parent, "reader", "ee", **TRAINED)
    stated = json.loads((run / "run.json").read_text())["needed"]
    edit_json(run / "run.json", needed={**{f"/{n}": p for n, p in enumerate(stated)}, "/r": reader})
    config = yaml.safe_load((run / "config.yaml").read_text())
    part = {"class": "unify.x.Reader", "weights": {"run": "/r"}}
    model = {**config["model"], "reader": part}
    for more, needed in (
        ({"evaluation": [part]}, before.needed),
        ({"evaluation": [part], "model": model}, before.needed + 100 * 1e6),
    ):
        (run / "config.yaml").write_text(yaml.safe_dump({**config, **more}))
        assert cost_of(folder).needed == needed, more
