"""Read published block latencies and the networks that go with them: ProxylessNAS, Once-for-All, TF-NAS."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasray.hardware.block_table import BlockKey, BlockTable
from nasray.reading import build, cut, parse_json, read_frame, short

if TYPE_CHECKING:
    import pandas as pd

_TF_NAS_BLOCK = re.compile(r"MBInvertedResBlock_(\d+)_(\d+)_(\d+)_(\d+)_k(\d+)_s(\d+)_(\w+)")
_KINDS = {"Conv": "conv", "Conv_1": "conv", "Conv_2": "conv", "AvgPool2D": "pool", "Logits": "linear"}
_OnceForAllRow = tuple[int, int, int, int, float, int | None, str, bool]
_ACTIVATIONS = {"h_swish": "hard_swish"}


def table_names(path: Path) -> list[str]:
    """Return the tables that a file holds: the values of its column `lut`, or `device` for TF-NAS.

    Raises:
        ValueError: If the file is no table of block latencies.
    """
    frame = _read(path)
    return sorted(frame[_name_column(path, frame)].astype(str).unique())


def import_block_table(path: Path, name: str) -> BlockTable:
    """Read one published table, from parquet or CSV.

    A file with the columns `lut`, `key` and `mean_ms` is in the notation of ProxylessNAS and Once-for-All, one with
    `device`, `block`, `mid_channels` and `latency_ms` in that of TF-NAS. Latencies that are not positive, which TF-NAS
    extrapolated, are left out and counted; of a block that stands there for several resolutions of the image, as layers
    after the pool do, the mean counts.

    Args:
        path: The file.
        name: Which of its tables.

    Raises:
        ValueError: If the file or a row cannot be read, or there is no such table.
    """
    frame = _read(path)
    column = _name_column(path, frame)
    labels = frame[column].astype(str)
    if name not in set(labels):
        names = cut(", ".join(sorted(labels.unique())))
        raise ValueError(f"`name` must be a table of {path}, one of {names}, got {name!r}.")
    own = frame[labels == name]
    if column == "lut":
        keys = [_proxyless_key(str(key)) for key in own["key"]]
        values, device = _latencies(path, own["mean_ms"]), str(own["device"].iloc[0])
    else:
        keys = [_tf_nas_key(str(b), str(m)) for b, m in zip(own["block"], own["mid_channels"], strict=True)]
        values, device = _latencies(path, own["latency_ms"]), name
    measured: dict[BlockKey, list[float]] = {}
    for key, value in zip(keys, values, strict=True):
        if value > 0:
            measured.setdefault(key, []).append(float(value))
    num_dropped = sum(not value > 0 for value in values)
    entries = {key: statistics.fmean(own_ms) for key, own_ms in measured.items()}
    return BlockTable(device, f"{path.name}, {name}", entries, num_dropped)


def proxyless_blocks(network: Mapping[str, Any], *, resolution: int = 224, num_classes: int = 1000) -> list[BlockKey]:
    """Return the blocks of a ProxylessNAS network.

    Args:
        network: With `first_conv_out`, `feature_mix_out` and `blocks`, as ProxylessNAS publishes them.
        resolution: Side of the image in pixels.
        num_classes: Outputs.
    """
    rows = [row for row in network["blocks"] if row["name"] != "ZeroLayer"]
    blocks = [
        (
            row["in_channels"],
            row["out_channels"],
            row["kernel_size"],
            row["stride"],
            round(row["in_channels"] * row["expand_ratio"]),
            0,
            "",
            row["shortcut"] is not None,
        )
        for row in rows
    ]
    return _network(blocks, network["first_conv_out"], [network["feature_mix_out"]], resolution, num_classes)


def once_for_all_blocks(blocks_json: str, *, resolution: int, num_classes: int = 1000) -> list[BlockKey]:
    """Return the blocks of a specialised Once-for-All network of the MobileNetV3 family.

    Args:
        blocks_json: JSON rows of input and output channels, kernel, stride, expansion, middle channels (null for an
            expansion of 1), activation, and whether there is squeeze-and-excitation.
        resolution: Side of the image in pixels.
        num_classes: Outputs.

    Raises:
        ValueError: If the text holds anything else.

    Source: Cai et al. 2020; the two layers after the blocks have 6 and 8 times the last block's channels, and
    squeeze-and-excitation a quarter of the middle ones, all in multiples of 8, as in its code. Deviation: none.
    """
    try:
        rows = build(list[_OnceForAllRow], parse_json(blocks_json))
        if not rows or min(min(row[:4]) for row in rows) < 1 or min(row[5] or 1 for row in rows) < 1:
            raise ValueError("no blocks, or sizes below 1")
    except ValueError as error:
        raise ValueError(
            f"`blocks_json` must hold rows of eight as Once-for-All writes them, got {short(blocks_json)} ({error})."
        ) from error
    blocks = []
    for in_channels, out_channels, kernel, stride, _, middle, activation, has_squeeze in rows:
        middle = middle or in_channels
        squeeze = _multiple_of_8(middle // 4) if has_squeeze else 0
        has_residual = stride == 1 and in_channels == out_channels
        named = _ACTIVATIONS.get(activation, activation)
        blocks.append((in_channels, out_channels, kernel, stride, middle, squeeze, named, has_residual))
    last = blocks[-1][1]
    return _network(blocks, blocks[0][0], [6 * last, 8 * last], resolution, num_classes)


def _network(
    blocks: Iterable[Sequence[Any]], stem: int, features: Sequence[int], resolution: int, num_classes: int
) -> list[BlockKey]:
    """Put stem, blocks and head together; a second width of `features` comes after the pool."""
    keys = [BlockKey("conv", 3, stem, resolution, 2, 3)]
    size, channels = -(-resolution // 2), stem
    for in_channels, out_channels, kernel, stride, middle, squeeze, activation, has_residual in blocks:
        key = BlockKey(
            "block", in_channels, out_channels, size, stride, kernel, middle, squeeze, activation, has_residual
        )
        keys.append(key)
        size, channels = -(-size // stride), out_channels
    keys.append(BlockKey("conv", channels, features[0], size))
    if len(features) == 1:
        return [*keys, BlockKey("linear", features[0], num_classes, size)]
    pool, mix = BlockKey("pool", features[0], features[0], size), BlockKey("conv", features[0], features[1])
    return [*keys, pool, mix, BlockKey("linear", features[1], num_classes)]


def _proxyless_key(text: str) -> BlockKey:
    """Read such as "expanded_conv-input:56x56x24-output:28x28x40-expand:3-kernel:5-stride:2-idskip:0"."""
    name, *parts = text.split("-")
    try:
        found = dict(part.split(":") for part in parts)
        in_size, in_channels = _shape(found["input"])
        _, out_channels = _shape(found["output"])
        if name in _KINDS:
            is_first = name == "Conv"
            return BlockKey(
                _KINDS[name], in_channels, out_channels, in_size, 2 if is_first else 1, 3 if is_first else 1
            )
        # ProxylessNAS writes the expansion, Once-for-All the channels that it leads to.
        expand, is_once_for_all = int(found["expand"]), "se" in found
        middle = expand if is_once_for_all else expand * in_channels
        squeeze = _multiple_of_8(middle // 4) if found.get("se") == "1" else 0
        activation = ("hard_swish" if found["hs"] == "1" else "relu") if is_once_for_all else ""
        stride, kernel = int(found["stride"]), int(found["kernel"])
        has_residual = found["idskip"] == "1"
        return BlockKey(
            "block", in_channels, out_channels, in_size, stride, kernel, middle, squeeze, activation, has_residual
        )
    except (KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"A key must read like those of ProxylessNAS or Once-for-All, got {short(text)}.") from error


def _shape(text: str) -> tuple[int, int]:
    """Read side and channels, as in "56x56x24" or "1000"."""
    numbers = [int(part) for part in text.split("x")]
    return (numbers[0], numbers[2]) if len(numbers) == 3 else (1, numbers[0])


def _tf_nas_key(block: str, middle: str) -> BlockKey:
    """Read such as "MBInvertedResBlock_112_16_0_24_k3_s2_relu": size, channels in, squeeze, channels out."""
    if block == "base":
        return BlockKey("base")
    match = _TF_NAS_BLOCK.fullmatch(block)
    if match is None or not middle.isdecimal():
        raise ValueError(
            f"A block must read like those of TF-NAS, got {short(block)} with middle channels {short(middle)}."
        )
    size, in_channels, squeeze, out_channels, kernel, stride = (int(match[group]) for group in range(1, 7))
    has_residual = stride == 1 and in_channels == out_channels
    return BlockKey(
        "block", in_channels, out_channels, size, stride, kernel, int(middle), squeeze, match[7], has_residual
    )


def _multiple_of_8(value: float) -> int:
    """Round to a multiple of 8, but not down by more than a tenth, as MobileNets do."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def _latencies(path: Path, column: pd.Series[Any]) -> list[float]:
    """Return a column of milliseconds, NaN where a cell is empty.

    Raises:
        ValueError: If a cell holds something else, or no finite number.
    """
    try:
        values = [float(value) if value not in ("", None) else math.nan for value in column.tolist()]
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{column.name}` in {path} must hold numbers, got others ({error}). Correct them.") from error
    if math.inf in values:
        raise ValueError(f"`{column.name}` in {path} must hold finite numbers, got infinity. Correct them.")
    return values


def _name_column(path: Path, frame: pd.DataFrame) -> str:
    if {"lut", "key", "mean_ms", "device"} <= set(frame):
        return "lut"
    if {"device", "block", "mid_channels", "latency_ms"} <= set(frame):
        return "device"
    raise ValueError(
        f"`path` must have the columns lut, device, key, mean_ms (ProxylessNAS, Once-for-All) or device, block, "
        f"mid_channels, latency_ms (TF-NAS), got {cut(', '.join(map(str, frame)))} in {path}."
    )


def _read(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise ValueError(f"`path` must be a parquet or CSV file, got {path}, which does not exist.")
    is_csv = path.suffix == ".csv"
    try:
        return read_frame(path, is_csv=is_csv, dtype={"mid_channels": str}, keep_default_na=False)
    except ValueError as error:
        raise ValueError(
            f"`path` must be a parquet or CSV file, got {path}, which cannot be read ({error}). Obtain it again."
        ) from error
