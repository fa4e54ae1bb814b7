"""A latency table of whole mobile blocks, as others have measured and published them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from nasray.reading import build, read_json

SCHEMA_VERSION = 1


class BlockKey(NamedTuple):
    """What decides how long a block takes.

    Args:
        kind: "block" (expansion, depthwise convolution, projection), "conv", "pool", "linear", or "base" for what
            all networks of a table have in common.
        in_channels: Channels that arrive.
        out_channels: Channels that leave.
        in_size: Side of the input in pixels.
        stride: Spatial stride.
        kernel: Side of the (depthwise) kernel.
        middle: Channels of the depthwise convolution of a block; 0 elsewhere.
        squeeze_excite: Width of the bottleneck of squeeze-and-excitation; 0 where there is none.
        activation: Such as "relu6" or "hard_swish"; "" where the table does not tell.
        has_residual: Whether the input is added.
    """

    kind: str
    in_channels: int = 0
    out_channels: int = 0
    in_size: int = 1
    stride: int = 1
    kernel: int = 1
    middle: int = 0
    squeeze_excite: int = 0
    activation: str = ""
    has_residual: bool = False

    @property
    def is_possible(self) -> bool:
        """Whether no size is negative, and kernel and stride are there."""
        sizes = (self.in_channels, self.out_channels, self.middle, self.squeeze_excite)
        return min(sizes) >= 0 and min(self.in_size, self.stride, self.kernel) >= 1

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        out_pixels = (1 if self.kind == "pool" else -(-self.in_size // self.stride)) ** 2
        if self.kind == "block":
            expansion = 0 if self.middle == self.in_channels else self.in_channels * self.middle * self.in_size**2
            depthwise = self.middle * self.kernel**2 * out_pixels
            squeeze = 2 * self.middle * self.squeeze_excite
            return expansion + depthwise + squeeze + self.middle * self.out_channels * out_pixels
        if self.kind in ("conv", "linear"):
            return self.in_channels * self.out_channels * self.kernel**2 * out_pixels
        return 0


@dataclass(frozen=True, kw_only=True)
class BlockPrediction:
    """The latency of a network by a block table.

    Args:
        latency_ms: Sum over its blocks.
        num_blocks: Blocks that the sum runs over.
        num_estimated: Those that the table does not hold, which were scaled from the nearest one.
    """

    latency_ms: float
    num_blocks: int
    num_estimated: int


@dataclass(frozen=True)
class BlockTable:
    """Latencies of mobile blocks on one device; a network's latency is their sum.

    Args:
        device: Name of the device as its publisher gives it.
        source: Where the table comes from.
        entries: Latency in ms by block.
        num_dropped: Rows of the source that were left out, as a latency that is not positive is none.

    Raises:
        ValueError: If there is no entry or one is not positive.

    Source: Cai et al. 2019 (ProxylessNAS), Sec. 3.3 and appendix B; Cai et al. 2020 (Once-for-All), Sec. 4: latency
    as a sum of measured blocks. Deviation: a block that was not measured may be estimated, and is then counted.
    """

    device: str
    source: str
    entries: Mapping[BlockKey, float]
    num_dropped: int = 0

    def __post_init__(self) -> None:
        if not self.entries:
            raise ValueError(f"The table of {self.device!r} must hold a block, got none.")
        odd = next((key for key in self.entries if not key.is_possible), None)
        if odd is not None:
            raise ValueError(f"Blocks of {self.device!r} must have sizes of 0 and more and a stride, got {odd}.")
        bad = next((key for key, value in self.entries.items() if not 0 < value < math.inf), None)
        if bad is not None:
            raise ValueError(f"Latencies of {self.device!r} must be positive, got {self.entries[bad]} for {bad}.")

    def predict(self, blocks: Sequence[BlockKey], *, may_estimate: bool = False) -> BlockPrediction:
        """Return the latency of a network.

        Args:
            blocks: Its blocks; a table with a "base" entry has it added.
            may_estimate: Whether a block that the table lacks is taken from the nearest one of its kind, in
                proportion to multiply-adds. Wrong where the device minds something else.

        Raises:
            ValueError: If a block is missing and may not, or cannot, be estimated.
        """
        base = BlockKey("base")
        total_ms, num_estimated = self.entries.get(base, 0.0), 0
        for key in blocks:
            found_ms = self.entries.get(key)
            if found_ms is None:
                found_ms, num_estimated = self._estimate(key, may_estimate), num_estimated + 1
            total_ms += found_ms
        return BlockPrediction(latency_ms=total_ms, num_blocks=len(blocks), num_estimated=num_estimated)

    def missing(self, blocks: Sequence[BlockKey]) -> list[BlockKey]:
        """Return the blocks that the table does not hold."""
        return [key for key in blocks if key not in self.entries]

    def describe(self) -> str:
        """Return a short text: size, device, origin and what was left out."""
        dropped = f", {self.num_dropped} rows without a positive latency left out" if self.num_dropped else ""
        return f"{len(self.entries)} blocks on {self.device} ({self.source}){dropped}"

    def save(self, path: Path) -> None:
        """Write the table as one JSON file."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "blocks_of": self.device,
            "source": self.source,
            "num_dropped": self.num_dropped,
            "unit": "ms",
            "entries": [{**key._asdict(), "latency_ms": value} for key, value in self.entries.items()],
        }
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> BlockTable:
        """Read what `save` wrote.

        Raises:
            ValueError: If the file is something else.
        """
        try:
            content = build(_TableFile, read_json(path))
            pairs = [_entry(row) for row in content.entries]
            if len(entries := dict(pairs)) < len(pairs):
                raise ValueError("a block stands there twice")
            return cls(
                device=content.blocks_of, source=content.source, entries=entries, num_dropped=content.num_dropped
            )
        except (OSError, ValueError) as error:
            raise ValueError(
                f"`path` must be a block table of schema version {SCHEMA_VERSION}, got {path}, which cannot be read "
                f"({error}). Import it again."
            ) from error

    def _estimate(self, key: BlockKey, may_estimate: bool) -> float:
        alike = [other for other in self.entries if other.kind == key.kind]
        if not may_estimate or not alike:
            wanted = ", ".join(f"{name} {value}" for name, value in key._asdict().items())
            remedy = "Pass may_estimate=True to scale the nearest block" if alike else "It has none to scale either"
            raise ValueError(
                f"`blocks` must be in the table of {self.device!r}, which has none for {wanted}. {remedy}; or take "
                "another table."
            )
        nearest = min(alike, key=lambda other: distance(key, other))
        scale = key.macs / nearest.macs if nearest.macs else key.in_channels / max(1, nearest.in_channels)
        return self.entries[nearest] * scale


@dataclass(frozen=True, kw_only=True)
class _TableFile:
    """What `BlockTable.save` writes."""

    schema_version: Literal[1]
    blocks_of: str
    source: str
    num_dropped: int
    unit: Literal["ms"]
    entries: list[dict[str, int | float | str | bool]]


def _entry(row: Mapping[str, object]) -> tuple[BlockKey, float]:
    key = build(BlockKey, {name: value for name, value in row.items() if name != "latency_ms"})
    return key, build(float, row.get("latency_ms"))


def distance(one: BlockKey, other: BlockKey) -> float:
    """Return how unlike two blocks are: factors between their sizes, with a surcharge for parts that one lacks."""
    factors = sum(
        abs(math.log((getattr(one, name) or 1) / (getattr(other, name) or 1)))
        for name in ("in_channels", "out_channels", "in_size", "middle")
    )
    differs = 2.0 * (one.kernel != other.kernel) + 2.0 * (one.stride != other.stride)
    differs += 1.0 * (bool(one.squeeze_excite) != bool(other.squeeze_excite))
    differs += 0.5 * (one.activation != other.activation)
    return factors + differs + 0.1 * (one.has_residual != other.has_residual)
