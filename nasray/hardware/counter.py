"""Count the multiply-adds of any module by running it on shapes: the check on the analytic counts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")

TORCH_COUNTER = "torch.utils.flop_counter"
"""Name of the counter behind `count_macs`."""


def count_macs(module: nn.Module, input_shape: Sequence[int]) -> int:
    """Count the multiply-adds of a forward pass in eval mode: no arithmetic, no data.

    Counts convolutions and matrix products, for the whole batch; everything else is free. The module is left alone. One
    that computes with values, such as a tensor that is neither parameter nor buffer, is run on zeros.

    Args:
        module: Any module of one input.
        input_shape: Shape of the input, batch included.

    Returns:
        Multiply-adds, half of what torch's counter calls flops.
    """
    counter = run_shadow(module, input_shape, lambda _: FlopCounterMode(display=False, custom_mapping=_VECTORS))
    return int(counter.get_total_flops()) // 2


def run_shadow(
    module: nn.Module, input_shape: Sequence[int], watch: Callable[[nn.Module], AbstractContextManager[T]]
) -> T:
    """Run a copy of a module in eval mode, on shapes alone or, where it computes with values, on zeros.

    Args:
        module: Any module of one input; it is left alone.
        input_shape: Shape of the input, batch included.
        watch: Makes the context of the run, from the copy; what that gives is returned.
    """
    try:
        return _run(copy.deepcopy(module).to("meta"), input_shape, watch)
    except Exception:  # whatever is wrong with the module itself comes again
        return _run(copy.deepcopy(module), input_shape, watch)


def _run(shadow: nn.Module, input_shape: Sequence[int], watch: Callable[[nn.Module], AbstractContextManager[T]]) -> T:
    first = next(iter([*shadow.parameters(), *shadow.buffers()]), None)
    device = torch.device("cpu") if first is None else first.device
    shadow.eval()
    with watch(shadow) as found, torch.inference_mode():
        shadow(torch.zeros(tuple(input_shape), device=device))
    return found


def _matrix_vector_flops(matrix: Sequence[int], vector: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * matrix[0] * matrix[1]


_VECTORS: dict[Any, Any] = {
    torch.ops.aten.mv: _matrix_vector_flops,
    torch.ops.aten.addmv: lambda added, matrix, vector, *_, **__: _matrix_vector_flops(matrix, vector),
    torch.ops.aten.dot: lambda first, second, *_, **__: 2 * first[0],
}
"""Products that torch's counter takes for free."""
