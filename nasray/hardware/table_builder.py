"""Build a latency lookup table by timing every layer that a search space can need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from nasray.architecture import Architecture
from nasray.hardware.device import DeviceFingerprint, check_device
from nasray.hardware.lookup_table import LatencyTable
from nasray.hardware.piece_key import PieceKey
from nasray.hardware.piece_modules import build_piece
from nasray.hardware.table_file import SCHEMA_VERSION, append_row, mend, read_rows
from nasray.hardware.table_keys import PlannedSpace, TableKey, read_key, space_keys
from nasray.hardware.timing import Run, Timing, time_runs, torch_threads
from nasray.models.functions import add_padded
from nasray.models.plain import build_layer

Progress = Callable[[int, int], None]
"""Called with the measurements done and those needed in all."""


def build_latency_table(
    path: Path,
    space: PlannedSpace,
    *,
    architectures: Sequence[Architecture] | None = None,
    device: str = "cpu",
    batch_size: int = 1,
    threads: int = 1,
    rounds: int = 3,
    budget_s: float = 0.002,
    seed: int = 0,
    progress: Progress | None = None,
) -> LatencyTable:
    """Time every layer of a space, or what an earlier build did not get to.

    Every layer is timed once in each round and a round goes in random order, so that a machine that slows down for
    a while spoils no layer; the median of the rounds counts.

    Args:
        path: File of the table. If it exists, it is continued and nothing is timed again.
        space: The search space.
        architectures: Networks whose layers are timed; `None` is all of the space. Chains, whose layers are too many,
            need them.
        device: "cpu", "cuda" or "cuda:<index>".
        batch_size: Images at a time.
        threads: Threads of torch while timing on a CPU. One is the steadiest.
        rounds: How often to time each layer.
        budget_s: Seconds of samples for a layer in a round; warm-up comes on top.
        seed: Seed of the order.
        progress: Called after each measurement.

    Raises:
        ValueError: If the file holds a table of another device, number of threads or batch size, or all chains are
            asked for.
    """
    fingerprint, place = DeviceFingerprint.of(device, threads=threads), check_device(device)
    done = _open(path, fingerprint, batch_size)
    keys, order = space_keys(space, architectures), np.random.default_rng(seed)
    total = rounds * len(keys)
    finished = sum(min(rounds, done[key]) for key in keys)
    for turn in range(rounds):
        waiting = [key for key in keys if done[key] <= turn]
        for index in order.permutation(len(waiting)):
            with torch_threads(threads):
                timing = time_layer(waiting[index], device=place, batch_size=batch_size, budget_s=budget_s)
            append_row(path, _row(waiting[index], timing))
            finished += 1
            if progress is not None:
                progress(finished, total)
    return LatencyTable.load(path)


def time_layer(key: TableKey, *, device: torch.device, batch_size: int, budget_s: float) -> Timing:
    """Time one layer, residual addition or other piece, with random weights and input."""
    with torch.inference_mode():
        return time_runs(_run(key, device, batch_size), device=device, budget_s=budget_s, warmup_s=budget_s / 4)


def _run(key: TableKey, device: torch.device, batch_size: int) -> Run:
    generator = torch.Generator().manual_seed(0)
    if isinstance(key, PieceKey):
        return _piece_run(key, device, batch_size, generator)

    def image(channels: int) -> torch.Tensor:
        return torch.randn(batch_size, channels, key.in_size, key.in_size, generator=generator).to(device)

    x_BCHW = image(key.in_channels)
    if key.kind == "residual":
        branch_BCHW = image(key.filters)
        return lambda: add_padded(branch_BCHW, x_BCHW)
    with torch.random.fork_rng(devices=[]):
        layer = build_layer(key.plan()).to(device).eval()
    return lambda: layer(x_BCHW)


def _piece_run(key: PieceKey, device: torch.device, batch_size: int, generator: torch.Generator) -> Run:
    x = torch.randn(batch_size, *key.in_shape, generator=generator).to(device)
    with torch.random.fork_rng(devices=[]):
        piece = build_piece(key).to(device).eval()
    return lambda: piece(x)


def _open(path: Path, device: DeviceFingerprint, batch_size: int) -> Counter[TableKey]:
    """Start the file or continue it; return how often each layer was timed."""
    mend(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"schema_version": SCHEMA_VERSION, "unit": "ms", "batch_size": batch_size, "device": device.to_json()}
        append_row(path, header)
    table = LatencyTable.load(path)
    if (table.batch_size, table.device.threads) != (batch_size, device.threads):
        raise ValueError(
            f"`batch_size` and `threads` must be {table.batch_size} and {table.device.threads} to continue {path}, got "
            f"{batch_size} and {device.threads}. Choose another path."
        )
    return Counter(read_key(row["layer"]) for row in read_rows(path) if "layer" in row)


def _row(key: TableKey, timing: Timing) -> dict[str, object]:
    return {
        "layer": key._asdict(),
        "latency_ms": timing.median_ms,
        "spread_ms": timing.spread_ms,
        "repeats": timing.repeats,
    }
