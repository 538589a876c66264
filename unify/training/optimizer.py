"""Parameter groups of AdamW, the learning-rate schedule, and the moving average of the weights."""

import math

import torch
from torch import nn

from unify.distributed.ranks import local_shard
from unify.schema.experiment import CoolDown, Optimizer

MATRICES = (  # kinds of layers, and their parameter that weight decay acts on
    ((nn.Linear, nn.modules.conv._ConvNd), "weight"),
    (nn.MultiheadAttention, "in_proj_weight"),
)


def parameter_groups(model: nn.Module, settings: Optimizer) -> list[dict]:
    """Group trainable parameters by learning-rate ratio and weight decay.

    Decay acts on the MATRICES of layers only: biases, norms and embedding tables have no scale to
    be kept small. The longest prefix of a parameter's name in `settings.lr_ratio` decides its
    ratio. ValueError names a prefix that matches no parameter; one that matches frozen parameters
    alone has no effect.
    """
    matrices = {
        id(getattr(part, name))
        for part in model.modules()
        for kinds, name in MATRICES
        if isinstance(part, kinds)
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    matched: set[str] = set()
    for name, parameter in model.named_parameters():
        prefixes = [p for p in settings.lr_ratio if name == p or name.startswith(f"{p}.")]
        matched.update(prefixes)
        if not parameter.requires_grad:
            continue
        ratio = settings.lr_ratio[max(prefixes, key=len)] if prefixes else 1.0
        decay = settings.weight_decay if id(parameter) in matrices else 0.0
        groups.setdefault((ratio, decay), []).append(parameter)
    if unknown := settings.lr_ratio.keys() - matched:
        raise ValueError(
            f"optimizer.lr_ratio: no parameter of the model starts with {sorted(unknown)}"
        )
    return [
        {"params": parameters, "lr": settings.lr * ratio, "weight_decay": decay}
        for (ratio, decay), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def rate_factor(
    step: int, steps: int, settings: Optimizer, cooldown: CoolDown | None = None
) -> float:
    """Factor of the learning rate at optimizer step `step` (0-based) of `steps`.

    Linear over `warmup` steps, then half a cosine from 1 to `final_lr` (arXiv:1608.03983), a line,
    or 1; with a `cooldown`, 1 up to its start, and what it says from there to the end.
    """
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    shape = cooldown.shape if cooldown else settings.schedule
    begin = max(settings.warmup, cooldown.start) if cooldown else settings.warmup
    if shape == "constant" or step < begin:
        return 1.0
    done = min(1.0, (step - begin) / max(1, steps - begin))
    left = (1 + math.cos(math.pi * done)) / 2 if shape == "cosine" else 1 - done
    return settings.final_lr + (1 - settings.final_lr) * left


@torch.no_grad()
def update_ema(optimizer: torch.optim.Optimizer, decay: float) -> None:
    """state[p]["ema"] <- d * ema + (1 - d) * p, with d = min(decay, (1 + step) / (10 + step)).

    The warm-up keeps the first steps from weighing on the average. It lives in the optimizer's
    state, where it is sharded, saved and resumed with the moments. Parameters without a gradient
    are left out, as the optimizer leaves them out.
    """
    parameters = [
        p for group in optimizer.param_groups for p in group["params"] if p.grad is not None
    ]
    if not parameters:
        return
    states = [optimizer.state[p] for p in parameters]
    for state, parameter in zip(states, parameters, strict=True):
        if "ema" not in state:
            state["ema"] = parameter.detach().clone()
    step = float(states[0]["step"])
    share = min(decay, (1 + step) / (10 + step))
    averages = [local_shard(state["ema"]) for state in states]
    torch._foreach_lerp_(averages, [local_shard(p) for p in parameters], 1 - share)


@torch.no_grad()
def swap_ema(optimizer: torch.optim.Optimizer) -> None:
    """Exchange parameters and their averages, in place; a second call undoes it."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            average = optimizer.state.get(parameter, {}).get("ema")
            if average is not None:
                kept = parameter.detach().clone()
                parameter.copy_(average)
                average.copy_(kept)
