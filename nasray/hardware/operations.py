"""Every plan as one flat list of primitive operations, whatever its space: what costs are counted and learned from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nasray.spaces.cell_forms import EDGES
from nasray.spaces.cell_plan import KERNELS, CellPlan
from nasray.spaces.chain_plan import ChainLayer, ChainPlan, InceptionWidths
from nasray.spaces.network_plan import BlockPlan, LayerPlan, NetworkPlan

Plan = NetworkPlan | CellPlan | ChainPlan
"""A concrete network of any space that has them."""

OperationKind = Literal[
    "conv", "depthwise", "squeeze_excite", "linear", "norm", "pool", "activation", "add", "copy", "scale", "fill"
]
Shape = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One primitive operation on one image; batch norm and an activation after a convolution belong to it.

    Args:
        name: Of the layer that it belongs to.
        kind: What it computes. The two convolutions of a squeeze-and-excitation are `squeeze_excite`; `copy` moves
            channels (bypass, concatenation), `scale` multiplies channels, `fill` writes zeros.
        in_channels: Channels (or units) that arrive.
        out_channels: Channels (or units) that leave.
        kernel: Height and width of the kernel or window.
        stride: Spatial stride.
        in_size: Height and width of the input in pixels; (1, 1) of a vector.
        out_size: Height and width of the output in pixels.
        num_inputs: Tensors of the input's shape that are read.
        has_batch_norm: Whether batch norm follows.
        has_bias: Whether there is a bias.
    """

    name: str
    kind: OperationKind
    in_channels: int
    out_channels: int
    kernel: Shape = (1, 1)
    stride: int = 1
    in_size: Shape = (1, 1)
    out_size: Shape = (1, 1)
    num_inputs: int = 1
    has_batch_norm: bool = False
    has_bias: bool = False

    @property
    def weights(self) -> int:
        """Learned numbers that inputs are multiplied with."""
        match self.kind:
            case "conv" | "squeeze_excite" | "linear":
                return self.in_channels * self.out_channels * math.prod(self.kernel)
            case "depthwise":
                return self.out_channels * math.prod(self.kernel)
            case _:
                return 0

    @property
    def macs(self) -> int:
        """Multiply-adds for one image; convolutions and linear layers only."""
        return self.weights * math.prod(self.out_size)

    @property
    def parameters(self) -> int:
        """Learned numbers: weights, biases, batch-norm scale and shift."""
        return self.weights + self.out_channels * (2 * self.has_batch_norm + self.has_bias)

    @property
    def elements(self) -> int:
        """Numbers that are read or written for one image, weights left out."""
        read = self.num_inputs * self.in_channels * math.prod(self.in_size)
        return read + self.out_channels * math.prod(self.out_size)


def operations(plan: Plan) -> Iterator[Operation]:
    """Yield the operations of a network in order of computation."""
    match plan:
        case NetworkPlan():
            for block in plan.blocks:
                yield from _block_operations(block)
        case CellPlan():
            yield from _cell_network_operations(plan)
        case ChainPlan():
            for layer in plan.layers:
                yield from _chain_operations(layer)


def _block_operations(block: BlockPlan) -> Iterator[Operation]:
    for layer in block.layers:
        yield from _mobile_operations(layer)
    if block.spec.has_residual and block.layers:
        size = (block.layers[-1].out_size,) * 2
        channels = block.out_channels
        yield _elementwise("add", f"{block.spec.name}.residual", channels, size, num_inputs=2)


def _mobile_operations(layer: LayerPlan) -> Iterator[Operation]:
    spec, name = layer.spec, layer.name
    size, out_size = (layer.in_size,) * 2, (layer.out_size,) * 2
    match spec.kind:
        case "conv" | "depthwise":
            if layer.filters:
                yield Operation(
                    name=name,
                    kind=spec.kind,
                    in_channels=layer.filters if spec.kind == "depthwise" else layer.in_channels,
                    out_channels=layer.filters,
                    kernel=(layer.kernel, layer.kernel),
                    stride=spec.stride,
                    in_size=size,
                    out_size=out_size,
                    has_batch_norm=spec.has_batch_norm,
                    has_bias=not spec.has_batch_norm,
                )
            # A bypass is free only where it stands alone and nothing is halved.
            if layer.bypassed_channels and (layer.filters or spec.stride > 1):
                yield _elementwise("copy", name, layer.out_channels, out_size)
        case "squeeze_excite":
            channels, inner = layer.in_channels, layer.filters
            yield _pool(name, channels, size, (1, 1), kernel=size)
            for c_in, c_out in ((channels, inner), (inner, channels)):
                yield Operation(name=name, kind="squeeze_excite", in_channels=c_in, out_channels=c_out, has_bias=True)
            yield _elementwise("scale", name, channels, size)
        case "pool":
            yield _pool(name, layer.in_channels, size, (1, 1), kernel=size)
        case "linear":
            yield _linear(name, layer.in_channels, layer.filters)


def _cell_network_operations(plan: CellPlan) -> Iterator[Operation]:
    (before, size), last = plan.stages[0], 4 * plan.channels
    yield _conv("stem", plan.in_channels, before, 3, (size, size))
    for stage, (channels, size) in enumerate(plan.stages, start=1):
        if channels != before:
            yield from _reduction_operations(f"reduction{stage}", before, channels, plan.stages[stage - 2][1], size)
        for cell in range(plan.num_cells):
            yield from _cell_operations(plan.operations, f"stage{stage}.cell{cell}", channels, (size, size))
        before = channels
    final = (size, size)
    yield Operation(
        name="norm",
        kind="norm",
        in_channels=last,
        out_channels=last,
        in_size=final,
        out_size=final,
        has_batch_norm=True,
    )
    yield _pool("pool", last, final, (1, 1), kernel=final)
    yield _linear("classifier", last, plan.num_classes)


def _cell_operations(cell: tuple[str, ...], name: str, channels: int, size: Shape) -> Iterator[Operation]:
    for edge, operation in zip(EDGES, cell, strict=True):
        edge_name = f"{name}.edge_{edge[0]}_{edge[1]}"
        if operation in KERNELS:
            yield _elementwise("activation", edge_name, channels, size)
            yield _conv(edge_name, channels, channels, KERNELS[operation], size)
        elif operation == "avg_pool_3x3":
            yield _pool(edge_name, channels, size, size, kernel=(3, 3))
    for node in (1, 2, 3):
        terms = sum(op != "none" for (_, target), op in zip(EDGES, cell, strict=True) if target == node)
        if terms == 0:
            yield Operation(name=f"{name}.node{node}", kind="fill", in_channels=0, out_channels=channels, out_size=size)
        elif terms > 1:
            yield _elementwise("add", f"{name}.node{node}", channels, size, num_inputs=terms)


def _reduction_operations(name: str, before: int, channels: int, in_side: int, side: int) -> Iterator[Operation]:
    in_size, size = (in_side, in_side), (side, side)
    yield _elementwise("activation", name, before, in_size)
    yield _conv(name, before, channels, 3, size, in_size=in_size, stride=2)
    yield _elementwise("activation", name, channels, size)
    yield _conv(name, channels, channels, 3, size)
    yield _pool(name, before, in_size, size, kernel=(2, 2), stride=2)
    yield _conv(name, before, channels, 1, size, has_batch_norm=False)
    yield _elementwise("add", name, channels, size, num_inputs=2)


def _chain_operations(layer: ChainLayer) -> Iterator[Operation]:
    shape, out_shape, slot = layer.in_shape, layer.out_shape, layer.slot
    size: Shape = (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
    out_size: Shape = (out_shape[1], out_shape[2]) if len(out_shape) == 3 else (1, 1)
    match layer.kind:
        case "conv":
            yield _conv(
                layer.name,
                shape[0],
                slot.filters,
                slot.kernel,
                out_size,
                in_size=size,
                stride=slot.stride,
                has_batch_norm=layer.has_batch_norm,
                has_bias=not layer.has_batch_norm,
            )
        case "inception":
            yield from _inception_operations(layer, size)
        case "pool":
            yield _pool(layer.name, shape[0], size, out_size, kernel=slot.kernel, stride=slot.stride)
        case "activation":
            yield _elementwise("activation", layer.name, shape[0], size)
        case "linear":
            yield _linear(layer.name, shape[0], slot.units)
        case _:
            return  # dropout does nothing in inference


def _inception_operations(layer: ChainLayer, size: Shape) -> Iterator[Operation]:
    channels, widths = layer.in_shape[0], InceptionWidths.of(layer.slot.filters)
    convolutions = (
        (channels, widths.one, 1),
        (channels, widths.three_reduce, 1),
        (widths.three_reduce, widths.three, 3),
        (channels, widths.five_reduce, 1),
        (widths.five_reduce, widths.five, 5),
        (channels, widths.pool, 1),
    )
    has_norm = layer.has_batch_norm
    for c_in, c_out, kernel in convolutions:
        yield _conv(layer.name, c_in, c_out, kernel, size, has_batch_norm=has_norm, has_bias=not has_norm)
    yield _pool(layer.name, channels, size, size, kernel=(3, 3))
    yield _elementwise("copy", layer.name, layer.slot.filters, size)


def _conv(
    name: str,
    in_channels: int,
    out_channels: int,
    kernel: int | Shape,
    out_size: Shape,
    *,
    in_size: Shape | None = None,
    stride: int = 1,
    has_batch_norm: bool = True,
    has_bias: bool = False,
) -> Operation:
    return Operation(
        name=name,
        kind="conv",
        in_channels=in_channels,
        out_channels=out_channels,
        kernel=(kernel, kernel) if isinstance(kernel, int) else kernel,
        stride=stride,
        in_size=in_size or out_size,
        out_size=out_size,
        has_batch_norm=has_batch_norm,
        has_bias=has_bias,
    )


def _linear(name: str, inputs: int, outputs: int) -> Operation:
    return Operation(name=name, kind="linear", in_channels=inputs, out_channels=outputs, has_bias=True)


def _pool(name: str, channels: int, in_size: Shape, out_size: Shape, *, kernel: Shape, stride: int = 1) -> Operation:
    return Operation(
        name=name,
        kind="pool",
        in_channels=channels,
        out_channels=channels,
        kernel=kernel,
        stride=stride,
        in_size=in_size,
        out_size=out_size,
    )


def _elementwise(
    kind: Literal["activation", "add", "copy", "scale"], name: str, channels: int, size: Shape, *, num_inputs: int = 1
) -> Operation:
    return Operation(
        name=name,
        kind=kind,
        in_channels=channels,
        out_channels=channels,
        in_size=size,
        out_size=size,
        num_inputs=num_inputs,
    )
