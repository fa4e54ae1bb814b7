"""One sub-network's training pass over shared weights, whose effects are kept back until they are merged.

Autograd answers every slice of a parameter with a zero tensor of the parameter's full size, copies the slice's gradient
into it and adds it up; a supernet takes hundreds of slices a step. In a pass a slice is a leaf of its own, and its
gradient is added straight into the parameter's. As nothing shared is written before `merge`, passes of several
sub-networks may run on parallel threads; merged in a fixed order, they give the same result as one after the other.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor
from torch.nn import functional as F

Index = tuple[slice, ...]

_current = threading.local()


class SubnetPass:
    """Keeps the gradients and batch-norm statistics of a forward and a backward pass on this thread.

    Use it as a context around both, then call `merge`.

    Args:
        seed: Of this pass's dropout.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._slices: list[tuple[Tensor, Index, Tensor]] = []
        self._statistics: list[tuple[Tensor, Tensor, float]] = []

    def __enter__(self) -> SubnetPass:
        _current.subnet_pass = self
        return self

    def __exit__(self, *error: object) -> None:
        _current.subnet_pass = None

    def slice(self, parameter: Tensor, index: Index) -> Tensor:
        """Return `parameter[index]` as a leaf."""
        part = parameter.detach()[index].requires_grad_()
        self._slices.append((parameter, index, part))
        return part

    def statistics(self, running: Tensor, momentum: float) -> Tensor:
        """Return what batch norm may write in place of running statistics."""
        fresh = torch.zeros_like(running)
        self._statistics.append((running, fresh, momentum))
        return fresh

    def dropout(self, x: Tensor, share: float) -> Tensor:
        """Zero a share of the elements, drawn from this pass's own seed."""
        generator = torch.Generator(x.device).manual_seed(self._seed)
        return x * torch.empty_like(x).bernoulli_(1 - share, generator=generator).div_(1 - share)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the gradients to the parameters' and move the running statistics."""
        totals, parts = [], []
        for parameter, index, part in self._slices:
            if part.grad is None:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            totals.append(parameter.grad[index])
            parts.append(part.grad)
        if totals:
            torch._foreach_add_(totals, parts)
        if self._statistics:
            running, fresh, momenta = zip(*self._statistics, strict=True)
            torch._foreach_mul_(running, [1 - momentum for momentum in momenta])
            torch._foreach_add_(running, fresh)
        self._slices.clear()
        self._statistics.clear()


def take(parameter: Tensor, index: Index) -> Tensor:
    """Return `parameter[index]`: a leaf of the pass that runs on this thread, an ordinary slice outside of one."""
    current = _running_pass()
    if current is None or not (torch.is_grad_enabled() and parameter.requires_grad):
        return parameter[index]
    return current.slice(parameter, index)


def statistics(running: Tensor, size: int, momentum: float) -> Tensor:
    """Return the first running statistics of a batch norm in training, or what stands for them in a pass."""
    current = _running_pass()
    return running[:size] if current is None else current.statistics(running[:size], momentum)


def dropout(x: Tensor, share: float) -> Tensor:
    """Zero a share of the elements and scale up the others."""
    current = _running_pass()
    return F.dropout(x, share) if current is None else current.dropout(x, share)


def _running_pass() -> SubnetPass | None:
    return getattr(_current, "subnet_pass", None)
