"""A study folder with stored scores that agree with their outcomes, as `unify study` leaves it."""

import hashlib
import json

import numpy as np
import yaml

from unify.metrics.metric import average, proportion
from unify.runs.stored_scores import METRIC_VERSION, write_scores

EXACT, LOSS, SPEED = "text_to_image/exact", "caption/perplexity", "generate/images_per_s"
SOURCE, PROMPTS = "5ea5e0f5eaf0", 64
PASSPORT = {"precision": "32-true", "version": "0.1.0", METRIC_VERSION: 3, "prompt_set": "aa11"}


def write_scored_study(folder, arms, seeds=(0, 1, 2, 3), passport=PASSPORT, init=0, **info):
    """Two metrics and a speed of `arms` {name: share of right pictures}; returns the folder.

    `init`: what the arms add to the study's seeds.
    """
    about = {"name": folder.name, "seeds": list(seeds), "primary": [EXACT], "file": "study.yaml"}
    entries = {arm: {"paradigm": "P", "file": f"{arm}.yaml", "doc": "Draws."} for arm in arms}
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps({**about, "arms": entries, **info}))
    rows = [
        row
        for arm, share in arms.items()
        for seed in seeds
        for row in write_scored_run(folder, arm, seed, share, passport, init)
    ]
    (folder / "results.json").write_text(json.dumps(rows))
    return folder


def write_scored_run(folder, arm, seed, share, passport=PASSPORT, init=0):
    """A finished run and its scores; returns the rows."""
    digest = hashlib.sha256(f"{arm} {seed}".encode()).hexdigest()[:10]
    run = folder / f"{arm}-s{seed}-{digest}"
    run.mkdir()
    config = {
        "name": arm,
        "study": folder.name,
        "steps": 20,
        "seeds": dict.fromkeys(("init", "data", "noise"), seed + init),
        "data": {"tasks": {"text_to_image": 8}, "source": {"path": "/home/someone/data/mine"}},
        "machine": {"runs": "/home/someone/runs", "tracker": "https://me:secret@host"},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    facts = {
        **{"name": run.name, "study": folder.name, "arm": arm, "seed": seed, "hash": digest},
        **{"state": "finished", "steps": 20, "rows_per_step": 8, "flops_per_step": 1e9},
        **{"source": SOURCE, "data": "da7ada7a", "weights": digest, "precision": "32-true"},
        "needed": {"vae": {"name": "vae", "folder": "/home/someone/runs/vae", "hash": "aabb"}},
        "environment": {
            **{"cpu": "A CPU", "cores": 2, "command": ["/home/someone/bin/unify"]},
            "git": {"sha": "d34db33fcafe0123456789", "dirty": False},
        },
    }
    (run / "run.json").write_text(json.dumps(facts))
    reads = [{"samples": 8 * s, "hash": f"{s}{seed + init}" * 8} for s in range(1, 21)]
    journal = [
        {"step": s, "kind": "train", "loss": 1 / s, "data": {"text_to_image": read}}
        for s, read in enumerate(reads, 1)
    ]
    (run / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in journal))
    return _scores(run, arm, seed, share, passport)


def _scores(run, arm, seed, share, passport):
    code = int(hashlib.sha256(arm.encode()).hexdigest()[:6], 16)
    chance = np.random.default_rng([seed, code])
    hard = np.random.default_rng(7).normal(0, 0.2, PROMPTS)  # prompts differ, alike for all arms
    right = chance.random(PROMPTS) < share + hard
    losses = 3 - share + hard + chance.normal(0, 0.3, PROMPTS)
    own = {**passport, "weights": f"{arm}{seed}"}
    asked = [index // 2 for index in range(PROMPTS)]  # every prompt twice
    scores = [
        proportion(EXACT, right.tolist(), own, better="higher", unit="prompts", prompts=asked),
        average(LOSS, losses.tolist(), own, better="lower", unit="texts"),
        average(SPEED, [10.0 + seed, 11.0], {**own, "device": "A CPU"}, better="higher"),
    ]
    outcomes = {s.metric: np.asarray(s.outcomes, float) for s in scores}
    outcomes[f"prompts/{EXACT}"] = np.asarray(asked)
    rows = [{"arm": arm, "paradigm": "P", "seed": seed, **score.row()} for score in scores]
    write_scores(run, "asked", True, rows, outcomes)
    return rows
