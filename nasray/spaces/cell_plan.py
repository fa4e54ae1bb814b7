"""The concrete network that a cell of NAS-Bench-201 stands for, and what it costs in closed form."""

from __future__ import annotations

from dataclasses import dataclass

from nasray.spaces.cell_forms import EDGES, OPERATIONS

KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
"""Side of the kernel of the operations that are convolutions."""


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """Three stages of equal cells, with a residual block that halves the resolution between two stages.

    Args:
        operations: The operation of every edge of the cell, in the order of `EDGES`.
        num_classes: K, outputs of the classifier.
        in_channels: Channels of the input image.
        resolution: Side of the square input image, in pixels.
        num_cells: Cells per stage.
        channels: Channels of the first stage; each later one has twice as many.

    Source: Dong and Yang 2020 (NAS-Bench-201), Sec. 2.1 and Fig. 1. Deviation: an odd side, which
    NAS-Bench-201 does not have, is halved to the larger half.
    """

    operations: tuple[str, ...]
    num_classes: int
    in_channels: int
    resolution: int
    num_cells: int
    channels: int

    def __post_init__(self) -> None:
        if len(self.operations) != len(EDGES) or not set(self.operations) <= set(OPERATIONS):
            raise ValueError(
                f"`operations` must be {len(EDGES)} of {', '.join(OPERATIONS)}, got {', '.join(self.operations)}."
            )
        for name in ("num_classes", "in_channels", "resolution", "num_cells", "channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """Channels and side in pixels of each stage."""
        half = -(-self.resolution // 2)
        return (
            (self.channels, self.resolution),
            (2 * self.channels, half),
            (4 * self.channels, -(-half // 2)),
        )

    @property
    def convolutions(self) -> tuple[tuple[int, int, int, int, bool], ...]:
        """Every convolution: input and output channels, kernel, side of the output, whether batch norm follows."""
        first, size = self.stages[0]
        found = [(self.in_channels, first, 3, size, True)]
        before = first
        for channels, size in self.stages:
            if channels != before:
                found += [(before, channels, 3, size, True), (channels, channels, 3, size, True)]
                found += [(before, channels, 1, size, False)]
            kernels = [KERNELS[operation] for operation in self.operations if operation in KERNELS]
            found += [(channels, channels, kernel, size, True) for kernel in kernels] * self.num_cells
            before = channels
        return tuple(found)

    @property
    def macs(self) -> int:
        """Multiply-adds for one image; convolutions and the classifier. NAS-Bench-201 adds 1 per class for biases."""
        convolutions = sum(c_in * c_out * kernel**2 * size**2 for c_in, c_out, kernel, size, _ in self.convolutions)
        return convolutions + 4 * self.channels * self.num_classes

    @property
    def parameters(self) -> int:
        """Learned numbers: weights, biases of the classifier, batch-norm scale and shift."""
        convolutions = sum(
            c_in * c_out * kernel**2 + 2 * c_out * norm for c_in, c_out, kernel, _, norm in self.convolutions
        )
        last = 4 * self.channels
        return convolutions + 2 * last + (last + 1) * self.num_classes
