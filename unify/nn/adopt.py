"""Models of libraries inside ours: initial values by name, further input channels, zero outputs."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def resettable(model: Any, reset: Callable[[nn.Module], None]) -> Any:
    """Modules of a library that own parameters and cannot reset them learn to."""
    # weights here are drawn by name (init.py), which asks every module for `reset_parameters`
    for part in model.modules():
        own = any(True for _ in part.parameters(recurse=False))
        if own and not hasattr(part, "reset_parameters"):
            part.reset_parameters = functools.partial(reset, part)
    return model


def prepared(model: Any, checkpoint: bool) -> Any:
    """A model of diffusers that can be initialised, and recomputes activations if asked to."""
    if checkpoint:
        model.enable_gradient_checkpointing()
    return resettable(model, _reset_own)


def _reset_own(part: nn.Module) -> None:
    """Norms start at one; tables of shifts, scales and gates as the library draws them."""
    for name, parameter in part.named_parameters(recurse=False):
        if name == "scale_shift_table":
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
        else:
            (nn.init.zeros_ if name == "bias" else nn.init.ones_)(parameter)


def start_by_xavier(model: nn.Module) -> None:
    """Linear layers start Xavier uniform (Glorot and Bengio 2010) with zero biases."""
    for part in model.modules():
        if isinstance(part, nn.Linear):
            part.reset_parameters = functools.partial(_xavier, part)  # type: ignore[method-assign]


def _xavier(part: nn.Linear) -> None:
    nn.init.xavier_uniform_(part.weight)
    if part.bias is not None:
        nn.init.zeros_(part.bias)


class WiderConv(nn.Conv2d):
    """A convolution that reads `extra` further channels, whose weights start at zero.

    So a pretrained model begins as what it was before it is shown the new channels.
    """

    def __init__(self, conv: nn.Conv2d, extra: int):
        self.extra = extra
        super().__init__(
            conv.in_channels + extra,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
        )
        assert self.bias is not None
        assert conv.bias is not None
        with torch.no_grad():
            self.weight[:, :-extra] = conv.weight
            self.bias.copy_(conv.bias)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.weight[:, -self.extra :])


class WiderLinear(nn.Linear):
    """A linear layer that reads `extra` further numbers, as `WiderConv` reads channels."""

    def __init__(self, linear: nn.Linear, extra: int):
        self.extra = extra
        super().__init__(linear.in_features + extra, linear.out_features)
        with torch.no_grad():
            self.weight[:, :-extra] = linear.weight
            self.bias.copy_(linear.bias)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.weight[:, -self.extra :])


class ZeroConv(nn.Conv2d):
    """A 3x3 convolution that starts as the zero function (ControlNet, arXiv:2302.05543).

    What is added through it changes nothing before the first step, and its gradient is not zero.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, padding=1)

    def reset_parameters(self) -> None:
        for parameter in self.parameters(recurse=False):
            nn.init.zeros_(parameter)
