"""A study folder as `unify study` leaves it, made of invented numbers, for report tests."""

from __future__ import annotations

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from unify.evaluation.image_grids import save_grid
from unify.metrics.metric import Grid, proportion

ARMS = {
    "ar_vq": ("ArVQ", "Text and image codes in one sequence, predicted token by token."),
    "transfusion": ("Transfusion", "Next-token loss on text, flow loss on image latents."),
}
PROMPTS = ["a red circle left of a blue square", "two green triangles", "a yellow square"]
COLOURS = {
    "red": (1, -1, -1),
    "green": (-1, 0.4, -1),
    "blue": (-1, -0.4, 1),
    "yellow": (1, 0.8, -1),
}


def write_study(folder: Path, seeds: tuple[int, ...] = (0,), steps: int = 400) -> Path:
    """Two arms; returns the study's folder."""
    info = {
        "name": folder.name,
        "title": "Codes or latents: two ways to unify, one budget",
        "question": "Does a flow loss on latents draw what was asked more exactly than next-token "
        "prediction of codes, at equal data and equal steps?",
        "primary": ["text_to_image/exact", "vqa/accuracy"],
        "arms": {
            arm: {"paradigm": name, "file": f"experiments/{arm}.yaml", "doc": doc}
            for arm, (name, doc) in ARMS.items()
        },
        "seeds": list(seeds),
        "file": "experiments/studies/quickstart.yaml",
        "created": "2026-01-02T03:04:05+00:00",
    }
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps(info))
    rows = []
    for arm in ARMS:
        for seed in seeds:
            run = write_run(folder, arm, seed, steps)
            if seed == seeds[0]:
                write_grids(run, arm == "transfusion")
            rows += scores(arm, seed)
            write_outcomes(run, arm, seed)
    write_results(folder, rows)
    return folder


def write_outcomes(run: Path, arm: str, seed: int) -> None:
    """Right and wrong of two metrics: one differs between the arms, one does not."""
    generator = np.random.default_rng([seed, arm == "transfusion"])
    chances = {"text_to_image/exact": 0.8 if arm == "transfusion" else 0.95, "vqa/accuracy": 0.9}
    result = {name: (generator.random(512) < p).astype(float) for name, p in chances.items()}
    (run / "eval").mkdir(exist_ok=True)
    np.savez_compressed(run / "eval" / "outcomes.npz", **result)


def edit_json(path: Path, **changes: Any) -> None:
    """Change some keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_results(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "results.json").write_text(json.dumps(rows))


def scores(arm: str, seed: int) -> list[dict[str, Any]]:
    flow = arm == "transfusion"
    passport = {
        "weights": hashlib.sha256(f"{arm}{seed}".encode()).hexdigest()[:12],
        "precision": "bf16-mixed",
        "version": "0.1.0",
        "sampler": {"steps": 32, "guidance": 1.5} if flow else {"top_k": 0, "guidance": 1.0},
        "prompt_set": "5f1c0d9e22aa",
    }
    shares = {
        "text_to_image/exact": (487 if flow else 499, 512),
        "text_to_image/exact/two_objects": (115 if flow else 122, 128),
        "text_to_image/exact/heldout": (31 if flow else 74, 128),
        "text_to_image/geneval/counting": (118 if flow else 120, 128),
        "text_to_image/geneval/position": (101 if flow else 119, 128),
        "vqa/accuracy": (472 if flow else 479, 512),
        "vqa/chance": (128, 512),
        "vqa/majority": (140, 512),
        "vqa/blind": (151, 512),
        "vqa/accuracy/count": (119 if flow else 124, 128),
        "vqa/chance/count": (43, 128),
        "vqa/accuracy/color": (125 if flow else 123, 128),
        "vqa/chance/color": (32, 128),
        "caption/exact": (240 if flow else 236, 256),
        "edit/exact": (88, 128),
        "tokenizer/exact": (256 if flow else 254, 256),
    }
    result = []
    for metric, (hits, n) in shares.items():
        if metric == "edit/exact" and not flow:
            continue
        reference = metric.split("/")[1] in ("chance", "majority", "blind")
        right = [i < hits - seed for i in range(n)]
        score = proportion(metric, right, passport, better=None if reference else "higher")
        result.append(score.row())
    result.append(number("text/perplexity", 3.217 if flow else 3.094, 4096, passport, 0.05))
    result.append(number("tokenizer/psnr", 27.81 if flow else 26.63, 256, passport, 0.21))
    result.append(number("generate/images_per_s", 143.2 if flow else 61.27, 32, passport, 2.5))
    result.append(number("generate/texts_per_s", 402.5 if flow else 410.5, 32, passport, 2.5))
    result.append({"metric": "text_to_image/variety/color", "value": math.nan, "n": 0,
                  "low": None, "high": None, "passport": passport})  # fmt: skip
    return [{"arm": arm, "paradigm": ARMS[arm][0], "seed": seed, **row} for row in result]


def number(metric: str, value: float, n: int, passport: dict, half: float) -> dict[str, Any]:
    return {"metric": metric, "value": value, "n": n, "low": value - half, "high": value + half,
            "passport": passport}  # fmt: skip


def write_run(folder: Path, arm: str, seed: int, steps: int) -> Path:
    flow = arm == "transfusion"
    digest = hashlib.sha256(f"{arm}-{seed}".encode()).hexdigest()[:8]
    run = folder / f"{arm}-s{seed}-{digest}"
    run.mkdir()
    config = {
        "name": arm,
        "study": folder.name,
        "steps": steps,
        "model": {"class": f"unify.paradigms.{arm}.{ARMS[arm][0]}"},
        "loss_weights": {"text": 1.0, "flow": 5.0} if flow else {"text": 1.0, "image": 1.0},
        "optimizer": {"lr": 0.002 if flow else 0.003, "weight_decay": 0.01},
        "image_sampling": {"steps": 32} if flow else {"guidance": 1.0},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    info = {
        "name": run.name,
        "study": folder.name,
        "arm": arm,
        "seed": seed,
        "hash": digest,
        "state": "finished",
        "steps": steps,
        "rows_per_step": 64,
        "train_seconds": 92.4 if flow else 63.8,
        "parameters": {"total": 1_318_912 + 64_000 * flow, "trainable": 1_318_912 + 64_000 * flow,
                       "frozen_tokenizers": 812_345},
        "flops_per_step": 3.1e10 if flow else 3.9e10,
        "data": "0a1b2c3d4e5f",
        "needed": [
            {"name": "vae" if flow else "vq", "hash": "aabbccddeeff" if flow else "112233445566"},
            {"name": "bpe", "hash": "99887766aabb"},
        ],
        "mlflow": {"uri": "sqlite:///runs/mlflow.db", "run_id": "f00"},
        "environment": {
            "python": "3.11.9", "platform": "Linux-6.1-x86_64", "cpu": "Example CPU 3000",
            "cores": 2, "memory_gib": 15.6, "accelerators": [],
            "packages": {"torch": "2.15.0", "lightning": "2.6.6"},
            "git": {"sha": "d34db33fcafe0123456789", "dirty": False, "untracked": []},
            "command": ["unify", "study", "experiments/studies/quickstart.yaml"],
        },
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps(info))
    (run / "journal.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in journal(arm, seed, steps))
    )
    return run


def journal(arm: str, seed: int, steps: int):
    """Records every 5 steps; both arms read the same data under the same seed."""
    chance = random.Random(f"{arm}-{seed}")
    for step in range(5, steps + 1, 5):
        fall = math.exp(-step / 60)
        noise = lambda: math.exp(chance.gauss(0, 0.12))  # noqa: E731
        yield {"step": step, "kind": "health", "time": 1.0 * step,
               "samples_per_s": 400 * noise(), "tokens_per_s": 9e3}  # fmt: skip
        record = {"step": step, "kind": "train", "loss/text": (0.25 + 4 * fall) * noise()}
        if arm == "transfusion":
            record["loss/flow"] = (0.35 + 0.9 * fall) * noise()
            for one, scale in enumerate((1.6, 1.1, 0.8, 0.5)):
                record[f"loss/flow/t{one}"] = scale * (0.35 + 0.9 * fall) * noise()
        else:
            record["loss/image"] = (0.9 + 4.5 * fall) * noise()
        record["loss"] = sum(
            v for k, v in record.items() if k.startswith("loss/") and "/t" not in k[5:]
        )
        record["lr"] = 2e-3 * min(1, step / 50) * (1 + math.cos(math.pi * step / steps)) / 2
        record["grad_norm"] = 0.6 * noise()
        record["samples"] = step * 64
        digest = hashlib.sha256(f"{seed}-{step}".encode()).hexdigest()[:32]
        record["data"] = {"vqa": {"samples": step * 64, "hash": digest}}
        yield record


def write_grids(run: Path, flow: bool) -> None:
    prompts = [f"{PROMPTS[i % 3]}" for i in range(12)]
    verdicts = [not (flow and i % 5 == 4) for i in range(12)]
    drawn = torch.stack([picture(p, v) for p, v in zip(prompts, verdicts, strict=True)])
    save_grid(Grid("text_to_image", drawn, prompts, verdicts), run / "eval/text_to_image.png")
    answers = [f"{p} → {'correct' if flow else 'a red circle'}" for p in prompts[:6]]
    grid = Grid("caption", drawn[:6], answers, [True, None, False] * 2)
    save_grid(grid, run / "eval/caption.png")
    for step in (100, 200, 300, 400):
        faint = drawn[:8] * step / 400 + torch.randn(8, 3, 32, 32, generator=torch.Generator()) * (
            1 - step / 400
        )
        grid = Grid("text_to_image", faint, prompts[:8], [None] * 8)
        save_grid(grid, run / f"samples/step-{step:08d}-text_to_image.png")


def picture(prompt: str, right: bool) -> torch.Tensor:
    """Discs of the prompt's colours on grey: [3 32 32] in [-1, 1]."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    image = torch.full((3, 32, 32), 0.85)
    result = [c for c in COLOURS if c in prompt]
    for index, colour in enumerate(result if right else result[::-1]):
        inside = (x - 8 - 16 * index) ** 2 + (y - 16) ** 2 < 40
        image[:, inside] = torch.tensor(COLOURS[colour] if right else (-1.0, -1.0, -1.0)).float()[
            :, None
        ]
    return image
