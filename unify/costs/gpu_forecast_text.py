"""A forecast in words: a column for each arm, and what to do where it does not fit."""

from collections.abc import Callable, Mapping

from unify.costs.gpu_forecast import Changes, Forecast, Hardware
from unify.costs.gpu_specs import GIB, NODE
from unify.costs.rank_memory import PARTS

LABELS = {
    "parameters": "  weights in training",
    "gradients": "  gradients",
    "moments": "  AdamW's moments",
    "average": "  average of the weights",
    "frozen": "  frozen parts, tokenizers",
    "exchange": "  between ranks",
    "copies": "  weights in bf16",
    "activations": "  activations",
    "kernels": "  what kernels of a CPU keep",
}


def lines(forecasts: Mapping[str, Forecast], hardware: Hardware) -> list[str]:
    """The table, then a verdict for each arm; arms that are not trained by gradients have none."""
    each, gpu = list(forecasts.values()), hardware.gpu
    table: list[list[str]] = [["", *forecasts]]

    def row(label: str, of: Callable[[Forecast], float | None], form: Callable[..., str]) -> None:
        values = [of(one) for one in each]
        table.append([label, *("n/a" if v is None else form(v) for v in values)])

    row(f"memory of a rank of {hardware.ranks} ({hardware.name})", lambda f: f.memory.total, _gib)
    for part in PARTS[: None if gpu is None else PARTS.index("kernels")]:
        row(LABELS[part], lambda f, part=part: getattr(f.memory, part), _gib)  # type: ignore[misc]
    if gpu is not None:
        row(f"  usable, of {_gib(gpu.memory)}", lambda f: f.usable, _gib)
    row(f"host memory of a node of {min(hardware.ranks, NODE)}", lambda f: f.host, _gib)
    row("checkpoint", lambda f: f.checkpoint, _gib)
    row(f"  written at {hardware.written / 1e9:g} GB/s", lambda f: f.save, _seconds)
    if gpu is not None:
        row(f"step at {hardware.mfu:.0%} of peak (assumed)", lambda f: f.step, _seconds)
        row("days, one run", lambda f: f.days, _figures)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    columns = [
        "  ".join([r[0].ljust(widths[0]), *map(str.rjust, r[1:], widths[1:])]) for r in table
    ]
    return [*columns, *(line for arm, one in forecasts.items() for line in _verdicts(arm, one))]


def _verdicts(arm: str, f: Forecast) -> list[str]:
    """Verdicts on an arm: the memory of its GPUs, and the notice that its save must fit."""
    out = []
    if f.usable is not None:
        share = f.memory.total / f.usable
        out.append(f"{arm}: fits, in {share:.0%} of the memory" if f.fits else _too_large(f, arm))
    needed = f.save + (f.step or 0)
    if f.saves:
        out.append(f"{arm}: saves in {_seconds(needed)}; fits a notice of {f.notice:g} s")
    else:
        out.append(
            f"{arm}: DOES NOT FIT a notice of {f.notice:g} s: it saves in {_seconds(needed)}; "
            f"lengthen the cluster's `notice`, or write faster (--write-gbps)"
        )
    return out


def _too_large(f: Forecast, arm: str) -> str:
    ways = " | ".join(map(_settings, f.remedies))
    missing = _gib(f.memory.total - (f.usable or 0))
    hint = f"it would with: {ways}" if ways else "nothing that was tried is enough: make it smaller"
    return f"{arm}: DOES NOT FIT, by {missing}; {hint}"


def _settings(changes: Changes) -> str:
    words = {"gpus": "--gpus {}"}
    return " ".join(
        words.get(key, f"machine.{key}={{}}").format(str(value).lower())
        for key, value in changes.items()
    )


def _gib(size: float) -> str:
    return f"{_figures(size / GIB)} GiB"


def _seconds(time: float) -> str:
    return f"{_figures(time)} s"


def _figures(value: float) -> str:
    """Two or three significant figures."""
    if 0 < value < 0.001:
        return "< 0.001"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"
