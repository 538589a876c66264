"""One rank of several, or one process, that trains runs, or finds them, and scores them. No test.

evaluation_child.py RUNS OUT FILE.yaml ... [key=value ...]

Scores of FILE go to OUT-FILE.<rank>.json.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from unify.assembly.assemble import open_run
from unify.config import load_recipe
from unify.distributed.ranks import end, local_shard, world
from unify.evaluation import score_run as scoring
from unify.training.train_run import train

SMALL = [
    "evaluation=[{class: unify.metrics.shapes_images.TextToImage, prompts: 6, heldout: 3,"
    " geneval: 2},"
    " {class: unify.metrics.shapes_texts.Captions, images: 6, heldout: 0},"
    " {class: unify.metrics.shapes_texts.VisualQuestions, questions: 6, heldout: 0},"
    " {class: unify.metrics.perplexity.Perplexity, rows: 6}]"
]
CHUNK = 4  # rows worked on at once: several chunks, of which the last is smaller


def main(runs: str, out: str, *words: str) -> None:
    torch.set_num_threads(1)
    whole_batch = scoring.subject_of
    scoring.subject_of = lambda *words: replace(whole_batch(*words), batch=CHUNK)
    overrides = [word for word in words if "=" in word]
    for path in (Path(word) for word in words if word.endswith(".yaml")):
        place = [f"machine.runs={runs}", "machine.tracker=none", "machine.accelerator=cpu"]
        config = load_recipe(path, [*SMALL, *place, "steps=2", *overrides], tiny=True)
        run = train(config, lambda _: None)
        _, opened, recipe = open_run(run.folder, machine=config["machine"])
        held = sum(local_shard(p).numel() for p in recipe.model.parameters())
        whole = sum(p.numel() for p in recipe.model.parameters())
        rows = scoring.evaluate(run, recipe, opened, again=True)
        facts = {"rows": rows, "held": held / whole}
        Path(f"{out}-{path.stem}.{world().rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
    end(0)
