"""Count the multiply-adds of any module by running it on shapes: the check on the analytic counts."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

TORCH_COUNTER = "torch.utils.flop_counter"
"""Name of the counter behind `count_macs`."""


def count_macs(module: nn.Module, input_shape: Sequence[int]) -> int:
    """Count the multiply-adds of a forward pass in eval mode, on the meta device: no arithmetic, no data.

    Counts convolutions and matrix products, for the whole batch; everything else is free. The module is left alone.

    Args:
        module: Any module of one input.
        input_shape: Shape of the input, batch included.

    Returns:
        Multiply-adds, half of what torch's counter calls flops.
    """
    shadow = copy.deepcopy(module).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        shadow(torch.empty(tuple(input_shape), device="meta"))
    return int(counter.get_total_flops()) // 2
