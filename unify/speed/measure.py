"""`unify bench`: what a step, a start and a read cost on this machine.

    step        the trainer's whole step against forward + backward + optimizer inside it
    trunk       our Transfusion step against a plain dense transformer of the same width and depth
    towers      a step of two towers against one of the same width, depth and FLOPs
    drawing     codes against transformers' `generate`, a flow's sampler against its bare network
    help        `unify --help` as a process
    shards      reading shards against bare Pillow decoding of the same bytes

Figures are medians; both sides of a ratio are measured in turn in the same run, pair by pair.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback
from PIL import Image

from unify.config import load_recipe
from unify.costs.gpu_specs import current_gpu
from unify.data.adapters.importer import import_images
from unify.data.shards import Shards
from unify.speed.drawing import codes_pair, flow_pair
from unify.speed.models import plain_step, towers_step, transfusion_step
from unify.support.environment import environment
from unify.support.precision import autocast
from unify.training.train_run import train

Figures = dict[str, Any]
Step = Callable[[], None]
Model = Callable[[torch.device, int], Step]  # the step of so many rows
WARM_UP = 5  # steps that are not counted


def bench(file: str | None, overrides: list[str], steps: int) -> Figures:
    """Figures of the experiment in `file`; without a file, those of all parts but the step."""
    figures: Figures = {"machine": machine(), "help_s": help_seconds()}
    if file is not None:
        figures["step"] = step_figures(file, overrides, steps)
        return figures
    precisions = ("32-true", "bf16-mixed")
    figures["trunk"] = {p: trunk_figures(p, steps) for p in precisions}
    figures["towers"] = {p: towers_figures(p, steps) for p in precisions}
    figures["drawing"] = drawing_figures(steps)
    figures["shards"] = shard_figures()
    return figures


def machine() -> dict[str, Any]:
    """Processor, cores, threads and accelerator of this process, and the version of torch."""
    facts = environment()
    return {
        "cpu": facts.get("cpu"),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }


def help_seconds(repeats: int = 5) -> float:
    """Median wall time of `unify --help` as a fresh process."""
    command = [sys.executable, "-m", "unify.cli", "--help"]
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


class StepTimer(Callback):
    """Whole steps, from batch to batch, and what of them is spent inside `optimizer_step`:
    forward (with its noise), backward, clipping, AdamW and the weights' average."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.inside: list[float] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        step = pl_module.optimizer_step

        def timed(*args: Any, **kwargs: Any) -> None:
            start = time.perf_counter()
            step(*args, **kwargs)
            self.inside.append(time.perf_counter() - start)

        pl_module.optimizer_step = timed

    def on_train_batch_start(self, *_: Any) -> None:
        self.starts.append(time.perf_counter())

    def medians(self, skip: int) -> tuple[float, float]:
        """(whole step, inside) in seconds, without the first `skip` steps."""
        whole = [b - a for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)]
        return statistics.median(whole[skip:]), statistics.median(self.inside[skip:-1])


def step_figures(file: str, overrides: list[str], steps: int) -> Figures:
    """Steps of a real run, journal and loader included; its run folder is removed again."""
    config = load_recipe(file, [*overrides, f"steps={steps + WARM_UP}", "machine.tracker=none"])
    config |= {"study": "bench", "name": f"bench-{os.getpid()}"}
    timer = StepTimer()
    run = train(config, lambda text: None, [timer])
    facts = run.info
    shutil.rmtree(run.folder)
    whole, inside = timer.medians(WARM_UP)
    gpu = current_gpu()
    share = {"mfu": facts["flops_per_step"] / whole / gpu.bf16} if gpu else {}
    return {
        "file": file,
        "parameters": facts["parameters"]["total"],
        "step_ms": 1000 * whole,
        "inside_ms": 1000 * inside,
        "outside_share": 1 - inside / whole,
        "rows_per_s": facts["rows_per_step"] / whole,
        "tokens_per_s": facts["tokens_per_step"] / whole,
        "flops_per_s": facts["flops_per_step"] / whole,
        **share,
        "peak_memory_gib": peak_memory_gib(),
    }


def peak_memory_gib() -> float:
    """Peak memory of the accelerator, or of this process where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def shard_figures(count: int = 400, side: int = 256) -> Figures:
    """Images per second through the index against bare Pillow decoding, in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        generator = np.random.default_rng(0)
        encoded = []
        for index in range(count):
            small = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            image = Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
            buffer = BytesIO()
            image.save(buffer, "JPEG", quality=90)
            encoded.append(buffer.getvalue())
            (folder / "in" / f"{index:05d}.jpg").write_bytes(encoded[-1])
            (folder / "in" / f"{index:05d}.txt").write_text(f"picture {index}")
        import_images(folder / "in", folder / "out")
        source = Shards(str(folder / "out"), size=side)
        records = source.size("image", "train")

        def bare() -> None:
            for data in encoded[:records]:
                np.asarray(Image.open(BytesIO(data)).convert("RGB"))

        def shards() -> None:
            for index in range(records):
                source.record("image", "train", index)

        both = alternate(bare, shards, repeats=5)
    return {
        "images_per_s": records / both.second,
        "pillow_images_per_s": records / both.first,
        "ratio": both.ratio,
    }


class Paired(NamedTuple):
    """Median seconds of two functions, and the median of first / second over the pairs."""

    first: float
    second: float
    ratio: float


def alternate(first: Callable[[], Any], second: Callable[[], Any], repeats: int) -> Paired:
    """Two functions run in turn, after a warm-up of each: a machine's drift falls on both."""
    first(), second()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, seconds in zip((first, second), times, strict=True):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(*times, strict=True)]
    return Paired(*(statistics.median(numbers) for numbers in (*times, ratios)))


def trunk_figures(precision: str, steps: int) -> Figures:
    """Milliseconds of forward, backward and AdamW: Transfusion against a plain transformer.

    16 rows of 80 tokens, width 256, depth 6, 4 heads.
    """
    both = alternate(*pair(precision, 16, transfusion_step, plain_step), steps)
    times = {"transfusion_ms": 1000 * both.first, "plain_ms": 1000 * both.second}
    return {**times, "ratio": both.ratio}


def towers_figures(precision: str, steps: int) -> Figures:
    """Milliseconds of forward, backward and AdamW: two towers against one, at 64 rows.

    The shipped experiments have 64 rows; the more rows, the less counts that AdamW of two towers
    reads twice the weights.
    """
    both = alternate(*pair(precision, 64, towers_step, transfusion_step), steps)
    return {"two_ms": 1000 * both.first, "one_ms": 1000 * both.second, "ratio": both.ratio}


def drawing_figures(steps: int) -> Figures:
    """Seconds that 32 pictures take, by codes and by a flow, against their references."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def timed(ours: Callable[[], object], reference: Callable[[], object]) -> Paired:
        return alternate(_awaited(ours, device), _awaited(reference, device), steps)

    codes, flow = timed(*codes_pair(device)), timed(*flow_pair(device))
    return {
        "codes": {"ours_s": codes.first, "transformers_s": codes.second, "ratio": codes.ratio},
        "flow": {"sampler_s": flow.first, "network_s": flow.second, "ratio": flow.ratio},
    }


def pair(precision: str, rows: int, first: Model, second: Model) -> tuple[Step, Step]:
    """Steps of two models on this machine's device; each returns when all is computed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def whole(step: Step) -> Step:
        def run() -> None:
            with autocast(precision, device):
                step()

        return _awaited(run, device)

    return whole(first(device, rows)), whole(second(device, rows))


def _awaited(run: Callable[[], object], device: torch.device) -> Step:
    """The same, which returns when all is computed."""

    def awaited() -> None:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return awaited


def lines(figures: Figures, indent: str = "") -> list[str]:
    """Figures as text, nested ones indented."""
    out = []
    for name, value in figures.items():
        if isinstance(value, dict):
            out += [f"{indent}{name}", *lines(value, indent + "  ")]
        else:
            shown = f"{value:,.3g}" if isinstance(value, float) else value
            out.append(f"{indent}{name:20} {shown}")
    return out
