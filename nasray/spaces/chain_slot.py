"""One slot of a chain genome: its genes, and how they are made to fit the map that arrives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from nasray.architecture import Choice

ChainKind = Literal["off", "dropout", "activation", "pool", "conv", "inception", "linear"]
ChainActivation = Literal["relu", "hard_swish", "elu", "sigmoid", "tanh"]
Pool = Literal["average", "max"]
Size = tuple[int, int]
"""Height and width in pixels."""

_FILTERS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_UNITS = (16, 32, 64, 128, 256, 512, 1024)
_RATES = (0.1, 0.2, 0.3, 0.4, 0.5)

FEATURE_GENES: dict[str, tuple[Choice, ...]] = {
    "kind": ("off", "dropout", "activation", "pool", "conv", "inception"),
    "filters": _FILTERS,
    "kernel_height": tuple(range(1, 8)),
    "kernel_width": tuple(range(1, 8)),
    "stride": (3, 2, 1),
    "is_padded": (False, True),
    "pool": get_args(Pool),
    "activation": get_args(ChainActivation),
    "rate": _RATES,
}
"""Options of a slot of the first half; ascending in what they cost, hence strides from the longest."""

HEAD_GENES: dict[str, tuple[Choice, ...]] = {
    "kind": ("off", "dropout", "activation", "linear"),
    "units": _UNITS,
    "activation": get_args(ChainActivation),
    "rate": _RATES,
}
"""Options of a slot of the second half."""

USED_GENES: dict[ChainKind, tuple[str, ...]] = {
    "off": (),
    "dropout": ("rate",),
    "activation": ("activation",),
    "pool": ("pool", "kernel_height", "kernel_width", "stride"),
    "conv": ("filters", "kernel_height", "kernel_width", "stride", "is_padded"),
    "inception": ("filters",),
    "linear": ("units",),
}
"""Genes that a kind of layer reads besides `kind`; the others have no effect."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainSlot:
    """The genes of one slot. A gene without effect has the value that stands here.

    Args:
        kind: What the slot computes; "off" is no layer.
        filters: Output channels of a convolution; of an inception module, over its four branches.
        kernel_height: Of a convolution or the window of a pool.
        kernel_width: Of a convolution or the window of a pool.
        stride: Of a convolution or a pool, in both directions.
        is_padded: Whether a convolution gets (kernel - 1) // 2 zeros on every side, which keeps the size under odd
            kernels and stride 1; otherwise none.
        pool: Average or maximum.
        activation: Non-linearity of an activation.
        rate: Probability that dropout drops a value.
        units: Outputs of a linear layer.
    """

    kind: ChainKind = "off"
    filters: int = 32
    kernel_height: int = 3
    kernel_width: int = 3
    stride: int = 1
    is_padded: bool = True
    pool: Pool = "max"
    activation: ChainActivation = "relu"
    rate: float = 0.2
    units: int = 128

    @property
    def kernel(self) -> Size:
        """Height and width of the kernel or window."""
        return self.kernel_height, self.kernel_width

    @property
    def padding(self) -> Size:
        """Rows above and below, columns left and right."""
        if self.kind != "conv" or not self.is_padded:
            return 0, 0
        return (self.kernel_height - 1) // 2, (self.kernel_width - 1) // 2

    def out_size(self, size: Size) -> Size:
        """Return the size of the output for an input that the slot fits, rounded down."""
        if self.kind not in ("conv", "pool"):
            return size
        (pad_height, pad_width), stride = self.padding, self.stride
        return (
            (size[0] + 2 * pad_height - self.kernel_height) // stride + 1,
            (size[1] + 2 * pad_width - self.kernel_width) // stride + 1,
        )

    def fitted(self, size: Size) -> ChainSlot:
        """Return the one slot that stands for this one on inputs of a size: what it computes, with kernels that fit.

        A kernel that does not fit is clipped: to the input, or, where padded, to 2 x input - 1, beyond which weights
        would only ever meet zeros. Settings that then make no difference take their fixed value: padding of 0, the
        stride of a single output, the sort of a 1 x 1 pool. A pool that changes nothing is off.
        """
        if self.kind not in ("conv", "pool"):
            return self
        slot = self._clipped(size)
        if slot.kind == "conv" and not slot.is_padded and max(slot.kernel) <= 2:
            slot = replace(slot, is_padded=True)
        if slot.stride > 1 and slot.out_size(size) == (1, 1):
            slot = replace(slot, stride=slot._shortest_stride(size))
        if slot.kind == "pool" and slot.kernel == (1, 1):
            slot = ChainSlot() if slot.stride == 1 else replace(slot, pool="max")
        return slot

    def _clipped(self, size: Size) -> ChainSlot:
        is_padded = self.kind == "conv" and self.is_padded
        height, width = (2 * size[0] - 1, 2 * size[1] - 1) if is_padded else size
        if self.kernel_height <= height and self.kernel_width <= width:
            return self
        return replace(self, kernel_height=min(self.kernel_height, height), kernel_width=min(self.kernel_width, width))

    def _shortest_stride(self, size: Size) -> int:
        """Return the shortest stride that gives a single output, where this one does."""
        (pad_height, pad_width), (height, width) = self.padding, size
        return 1 + max(height + 2 * pad_height - self.kernel_height, width + 2 * pad_width - self.kernel_width)
