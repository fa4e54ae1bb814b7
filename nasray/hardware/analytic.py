"""Costs that follow from the plan of a network alone: multiply-adds, parameters, memory. No torch needed."""

from __future__ import annotations

from collections.abc import Iterator

from nasray.architecture import Architecture
from nasray.hardware.cost import Cost, CostValue
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.network_plan import BlockPlan, LayerPlan, NetworkPlan

PLAN_COUNTER = "nasray.spaces.network_plan"
"""Name of the counter behind `Macs` and `Parameters`."""

_FLOAT_BYTES = 4
_COUNTER_BYTES = 8  # num_batches_tracked of a batch norm, int64


class Macs(Cost):
    """Multiply-adds for one image: convolutions, linear layers and squeeze-and-excitation."""

    name = "macs"
    unit = "MACs"

    def __init__(self, space: MobileSpace) -> None:
        self.space = space

    def __call__(self, architecture: Architecture) -> CostValue:
        """Return the multiply-adds of an architecture."""
        macs = self.space.plan(architecture).macs
        return CostValue(value=macs, unit=self.unit, source=PLAN_COUNTER, quality="exact")


class Parameters(Cost):
    """Learned numbers: weights, biases, batch-norm scale and shift."""

    name = "parameters"
    unit = "parameters"

    def __init__(self, space: MobileSpace) -> None:
        self.space = space

    def __call__(self, architecture: Architecture) -> CostValue:
        """Return the number of parameters of an architecture."""
        parameters = self.space.plan(architecture).parameters
        return CostValue(value=parameters, unit=self.unit, source=PLAN_COUNTER, quality="exact")


class Memory(Cost):
    """Bytes that inference needs at least: stored weights plus the peak of live activations, all float32.

    Predicted: workspaces of the convolutions and the allocator's slack come on top. Not for training memory.

    Args:
        space: The search space.
        batch_size: Images at a time.

    Raises:
        ValueError: If the batch size is not positive.
    """

    name = "memory"
    unit = "bytes"

    def __init__(self, space: MobileSpace, *, batch_size: int = 1) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}. Use 1 for single images.")
        self.space = space
        self.batch_size = batch_size

    def __call__(self, architecture: Architecture) -> CostValue:
        """Return the bytes that an architecture needs."""
        plan = self.space.plan(architecture)
        value = weight_bytes(plan) + peak_activation_bytes(plan, self.batch_size)
        source = f"{PLAN_COUNTER}, float32, batch size {self.batch_size}"
        return CostValue(value=value, unit=self.unit, source=source, quality="predicted")


def weight_bytes(plan: NetworkPlan) -> int:
    """Return the bytes of parameters (float32) and buffers (float32 statistics, int64 counter) of a plain network."""
    return sum(_FLOAT_BYTES * layer.parameters + _buffer_bytes(layer) for layer in plan.layers())


def peak_activation_bytes(plan: NetworkPlan, batch_size: int = 1) -> int:
    """Return the largest sum of activations that live at the same time in inference, in bytes.

    Live are a layer's input and output and, inside a residual block, the block's input; at the addition both sides
    and the sum. Batch norm and activation work in place, as in a fused runtime.
    """
    peak = max(sum(live) for block in plan.blocks for live in _live_elements(block))
    return _FLOAT_BYTES * batch_size * peak


def _buffer_bytes(layer: LayerPlan) -> int:
    if not layer.spec.has_batch_norm or layer.filters == 0 or layer.spec.kind not in ("conv", "depthwise"):
        return 0
    return 2 * _FLOAT_BYTES * layer.filters + _COUNTER_BYTES


def _live_elements(block: BlockPlan) -> Iterator[tuple[int, ...]]:
    """Yield the numbers of elements, for one image, of the tensors that live during each step of a block."""
    if not block.layers:
        return
    size = block.layers[0].in_size
    entry = block.in_channels * size**2
    for index, layer in enumerate(block.layers):
        held = entry if block.spec.has_residual and index > 0 else 0
        yield layer.in_channels * layer.in_size**2, layer.out_channels * layer.out_size**2, held
    if block.spec.has_residual:
        last = block.layers[-1]
        yield entry, last.out_channels * last.out_size**2, block.out_channels * size**2
