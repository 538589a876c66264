"""Golden losses: 20 fp32 steps of every shipped experiment, compared with a record of them.

What moves code must not move a number. Each experiment is trained for STEPS steps in its tiny form
(tokenizers have none and are trained as they are) on at most ROWS rows of each task, on one thread
of the CPU, and compared with `losses/EXPERIMENT.json`:

    losses      every number of the journal's train records, one list of STEPS values for each term
    parameters  name -> shape; initialisation, checkpoints and optimizer state are keyed by names
    buffers     name -> shape
    noise       names of the streams drawn; a renamed stream is another stream
    data        how many samples of each task were read, and the hash of them

Experiments on pictures of emoji, which need a font, read the embedded world instead. A BPE has no
steps: its vocabulary is fitted on TEXTS texts, and its hash and a few ids are compared.

    pytest tests/golden                   compare; `-m slow` for the experiments marked so
    pytest tests/golden --record          write the records anew, of all that is selected

Recording anew is right only for a change that is meant to change these numbers (another default,
another key of the noise, another initialisation), in a commit that does nothing else and says why.
It is never the way to make a refactoring pass. A new experiment is recorded once.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from unify.assembly.assemble import assemble
from unify.config import load_recipe, load_study
from unify.noise import Noise
from unify.runs.journal import Journal
from unify.training.train_run import train

ROOT = Path(__file__).parents[2] / "experiments"
RECORDS = Path(__file__).parent / "losses"
STEPS, ROWS, TEXTS = 20, 4, 500

FOLDERS = (
    *(".", "editing", "five_paradigms", "pretrained", "pretrained_track", "queries_dit_stages"),
    *("shapes", "shapes2"),
)
FRAGMENTS = {"base", "pretrained/data"}  # to be the base of others
ARMS = {  # arms of ablations that train other code than a shipped experiment does
    "crossflow_encoder": ("noised", "deterministic"),
    "crossflow_loss": ("text_text", "reconstruction"),
    "crossflow_path": ("sin_cos",),
    "lmfusion_separation": ("none", "ffn"),
    "lmfusion_text_rate": ("frozen",),
    "metaquery_conditioning": ("random",),
    "metaquery_tuning": ("tuned",),
    "transfusion_attention": ("causal",),
    "transfusion_patch": ("one",),
}
FAST = {  # the others train what one of these does, in another form, size or on other data
    *("ar_vq", "transfusion", "queries_dit", "crossflow", "dual_tower", "vlm", "masked"),
    *("tokenizers/shapes_vq", "tokenizers/shapes_vae", "tokenizers/shapes_text", "mar"),
}
CHAOTIC = {"tokenizers/shapes_lfq": 1}  # steps compared; its codes are signs of numbers near 0


def experiments() -> list[str]:
    """Names of what is trained: `FOLDER/FILE`, or `ablations/STUDY/ARM`."""
    files = [path for folder in (*FOLDERS, "tokenizers") for path in (ROOT / folder).glob("*.yaml")]
    names = {path.relative_to(ROOT).with_suffix("").as_posix() for path in files} - FRAGMENTS
    arms = {f"ablations/{study}/{arm}" for study, arms in ARMS.items() for arm in arms}
    return sorted(names | arms)


def load(name: str, runs: Path) -> dict[str, Any]:
    """The completed config of an experiment as it is trained here."""
    machine = "precision: 32-true, accelerator: cpu, threads: 1, tracker: none, reuse: false"
    overrides = [
        f"machine={{{machine}, runs: {runs}}}",
        f"steps={STEPS}",
        "logging={metrics_every: 1, samples_every: 0, gradients_every: 0}",
        "evaluation=[]",
    ]
    if "/emoji" in name:
        overrides.append("data.source.class=unify.data.shapes.Shapes")
    folder, _, arm = name.rpartition("/")
    if folder.startswith("ablations/"):
        overrides += ["primary=[]", "claims=[]"]  # nothing is scored here
        config = load_study(ROOT / f"{folder}.yaml", overrides, tiny=True)[1][arm]
    else:
        config = load_recipe(ROOT / f"{name}.yaml", overrides, tiny=True)
    tasks = config["data"]["tasks"]
    config["data"]["tasks"] = {task: min(rows, ROWS) for task, rows in tasks.items()}
    return config


class Names(Callback):
    """Keeps the names and shapes of what a model holds as its training starts."""

    def on_train_start(self, trainer, pl_module) -> None:
        parts = {
            "parameters": pl_module.model.named_parameters(),
            "buffers": pl_module.model.named_buffers(),
        }
        self.shapes = {
            kind: {name: shape_of(tensor) for name, tensor in sorted(tensors)}
            for kind, tensors in parts.items()
        }


def shape_of(tensor) -> str:
    """`32x260`; `scalar` without axes."""
    return "x".join(map(str, tensor.shape)) or "scalar"


def measure(name: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Train an experiment and return what its record holds."""
    config = load(name, runs)
    if name.startswith("tokenizers/") and name.endswith("_text"):
        return vocabulary(config)
    streams: set[str] = set()
    for kind in ("normal", "uniform"):
        draw = getattr(Noise, kind)

        def spy(self, name, shape=(), draw=draw, kind=kind):
            streams.add(f"{kind} {name}")
            return draw(self, name, shape)

        monkeypatch.setattr(Noise, kind, spy)
    names = Names()
    run = train(config, lambda _: None, [names])
    records = Journal(run.folder).records("train")
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    terms = sorted(records[0].keys() - {"step", "kind", "samples", "tokens", "data"})
    losses = {term: [rounded(record[term]) for record in records] for term in terms}
    data = records[-1]["data"]
    return {"data": data, "noise": sorted(streams), **names.shapes, "losses": losses}


def vocabulary(config: dict[str, Any]) -> dict[str, Any]:
    """What a BPE that is fitted on a few texts makes of them."""
    recipe = assemble(config, {})
    texts = recipe.data.texts(TEXTS)
    recipe.model.fit(texts)
    ids = {text: recipe.model.bare_ids([text])[0] for text in texts[:4]}
    return {"vocabulary": {"hash": recipe.model.content_hash(), **ids}}


def rounded(value: float | None) -> float | None:
    """To 8 significant digits; fp32 has 7. None, a mean over no rows, stays."""
    return None if value is None else float(f"{value:.8g}")


def tolerance(name: str, step: int) -> float:
    """Largest relative difference of a loss at a step (1 to STEPS); infinite: not compared.

    Kernels of different processors sum in different orders, and updates carry the difference on: so
    it grows with the step. Measured between the kernels of AVX2 and of SSE4 (ATEN_CPU_CAPABILITY,
    ONEDNN_MAX_CPU_ISA, MKL_CBWR): at most 2e-6, and 0 between two runs on one machine. What a loss
    weight of 1.01, another seed or a renamed stream does is 5e-4 and more. Another processor may
    also round a number to another code; no tolerance covers that, and it shows as a jump.

    CHAOTIC experiments differ so much after a few steps that only those are compared.
    """
    if name in CHAOTIC:
        return 1e-3 if step <= CHAOTIC[name] else math.inf
    return 1e-5 * step


def close(name: str, step: int, old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is new
    return math.isclose(old, new, rel_tol=tolerance(name, step), abs_tol=1e-7)


def differences(name: str, expected: dict[str, Any], got: dict[str, Any]) -> list[str]:
    """What differs, in words; names come first, as a loss that moved may follow from them."""
    lines = []
    for part in sorted(expected.keys() | got.keys()):
        old, new = (named(record.get(part, {})) for record in (expected, got))
        if part == "losses":  # values are compared below
            old, new = (dict.fromkeys(terms, f"{STEPS} values") for terms in (old, new))
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                was, now = old.get(key, "none"), new.get(key, "none")
                lines.append(f"{part}, {key}: expected {was}, got {now}")
    old, new = expected.get("losses", {}), got.get("losses", {})
    for step in range(1, STEPS + 1):
        for term in sorted(old.keys() & new.keys()):
            was, now = old[term][step - 1], new[term][step - 1]
            if not close(name, step, was, now):
                within = f"within {tolerance(name, step):.0e}"
                lines.append(f"step {step}, {term}: expected {was} {within}, got {now}")
    return lines


def named(part: dict[str, Any] | list[str]) -> dict[str, Any]:
    """A list of names as a mapping, as the other parts of a record are."""
    return part if isinstance(part, dict) else dict.fromkeys(part, "drawn")


def written(record: dict[str, Any]) -> str:
    """JSON with a line for each name and each term."""
    parts = []
    for part, value in record.items():
        if isinstance(value, dict) and value:
            inner = [f"  {json.dumps(key)}: {json.dumps(one)}" for key, one in value.items()]
            parts.append(f"{json.dumps(part)}: {{\n" + ",\n".join(inner) + "\n }")
        else:
            parts.append(f"{json.dumps(part)}: {json.dumps(value)}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


@pytest.mark.parametrize(
    "name",
    [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in experiments()],
)
def test_losses_and_names_are_those_on_record(name, tmp_path, monkeypatch, request):
    got, path = measure(name, tmp_path, monkeypatch), RECORDS / f"{name}.json"
    if request.config.getoption("--record"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(written(got))
        pytest.skip(f"recorded anew: {path.relative_to(ROOT.parent)}")
    assert path.exists(), f"{name} has no record: pytest tests/golden --record -k '{name}'"
    lines = differences(name, json.loads(path.read_text()), got)
    more = [f"and {len(lines) - 20} more"] if len(lines) > 20 else []
    assert not lines, "\n".join([f"{name} differs from its record:", *lines[:20], *more])


def test_each_record_is_of_an_experiment():
    kept = [path.relative_to(RECORDS).with_suffix("") for path in RECORDS.rglob("*.json")]
    assert {path.as_posix() for path in kept} <= set(experiments())


@pytest.fixture
def record():
    return json.loads((RECORDS / "transfusion.json").read_text())


def test_a_loss_that_moved_is_named_with_its_step(record):
    got = copy.deepcopy(record)
    got["losses"]["loss/text_ce"][2] *= 1 + 2 * tolerance("transfusion", 3)
    got["losses"]["grad_norm"][2] *= 1 + tolerance("transfusion", 3) / 2
    (line,) = differences("transfusion", record, got)
    assert line.startswith("step 3, loss/text_ce: expected ")


def test_what_is_renamed_is_named(record):
    got = copy.deepcopy(record)
    shape = got["parameters"].pop("embed.weight")
    got["parameters"]["embedding.weight"] = shape
    stream = got["noise"].pop()
    terms = got["losses"]
    terms["loss/words"] = terms.pop("loss/text_ce")
    assert differences("transfusion", record, got) == [
        f"losses, loss/text_ce: expected {STEPS} values, got none",
        f"losses, loss/words: expected none, got {STEPS} values",
        f"noise, {stream}: expected drawn, got none",
        f"parameters, embed.weight: expected {shape}, got none",
        f"parameters, embedding.weight: expected none, got {shape}",
    ]
