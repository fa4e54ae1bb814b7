"""Gradients of slices of shared weights, without a full-size gradient for each.

Autograd answers every slice of a parameter with a zero tensor of the parameter's full size, copies the slice's gradient
into it and adds it up; a supernet takes hundreds of slices a step. Here a slice is a leaf of its own, and its gradient
is added straight into the parameter's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

Index = tuple[slice, ...]


@dataclass
class SliceRecorder:
    """Hands out slices of parameters and later adds their gradients to the parameters'.

    While it is inactive, a slice is an ordinary one that autograd follows.
    """

    is_active: bool = False
    _taken: list[tuple[Tensor, Index, Tensor]] = field(default_factory=list)

    def take(self, parameter: Tensor, index: Index) -> Tensor:
        """Return `parameter[index]`."""
        if not (self.is_active and torch.is_grad_enabled() and parameter.requires_grad):
            return parameter[index]
        part = parameter.detach()[index].requires_grad_()
        self._taken.append((parameter, index, part))
        return part

    def __enter__(self) -> SliceRecorder:
        self.is_active = True
        return self

    def __exit__(self, *error: object) -> None:
        self.is_active = False
        self._taken.clear()

    @torch.no_grad()
    def collect(self) -> None:
        """Add the gradients of all slices taken since the last call; to be called after each backward pass."""
        totals, parts = [], []
        for parameter, index, part in self._taken:
            if part.grad is None:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            totals.append(parameter.grad[index])
            parts.append(part.grad)
        if totals:
            torch._foreach_add_(totals, parts)
        self._taken.clear()
