"""Per-layer latency lookup table: the latency of any network of a space, without building it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nasray.architecture import Architecture
from nasray.hardware.cost import Cost, CostValue
from nasray.hardware.device import DeviceFingerprint
from nasray.hardware.operations import Plan
from nasray.hardware.table_file import read_rows
from nasray.hardware.table_keys import PlannedSpace, TableKey, has_finite_keys, plan_keys, read_key, space_keys
from nasray.reading import build
from nasray.spaces.network_plan import NetworkPlan


@dataclass(frozen=True, kw_only=True)
class TableCheck:
    """How well a table's sums agree with whole networks timed on the same device.

    Args:
        space: Name of the search space.
        num_networks: How many random architectures were timed.
        median_ratio: Median of predicted over measured; 1 is best.
        mean_absolute_percentage_error: Mean of |predicted - measured| / measured, in percent.
        kendall_tau: Rank correlation of predicted and measured; 1 is best. Random architectures are alike in
            latency, so it is a hard test.
    """

    space: str
    num_networks: int
    median_ratio: float
    mean_absolute_percentage_error: float
    kendall_tau: float

    def describe(self) -> str:
        """Return a short text with the figures."""
        return (
            f"checked on {self.num_networks} networks of {self.space}: predicted/measured {self.median_ratio:.2f}, "
            f"error {self.mean_absolute_percentage_error:.1f} %, Kendall tau {self.kendall_tau:.2f}"
        )


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Latencies of layers and other pieces of networks on one device; a network's latency is their sum.

    Blind to what layers do to each other (caches, overlapping): see `checks`. Built by `build_latency_table`.

    Args:
        device: The device of the measurements.
        batch_size: Images at a time.
        entries: Median latency in ms by configuration.
        checks: Comparison with whole networks, by the name of the space.

    Source: Yang et al. 2018 (NetAdapt), layer-wise look-up tables. Deviation: the additions of residual blocks are
    entries too.
    """

    device: DeviceFingerprint
    batch_size: int
    entries: Mapping[TableKey, float]
    checks: Mapping[str, TableCheck] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, *, any_device: bool = False) -> LatencyTable:
        """Read a table from its file.

        Args:
            path: The file.
            any_device: Whether to accept a table of another device than this machine's.

        Raises:
            ValueError: If the file is no table, or one of another device.
        """
        header, *rows = read_rows(path)
        device, batch_size = _read_header(header, path)
        if not any_device:
            check_same_device(device, path)
        latencies_ms: defaultdict[TableKey, list[float]] = defaultdict(list)
        checks = []
        for number, row in enumerate(rows, start=2):
            try:
                if "layer" in row:
                    latencies_ms[read_key(row["layer"])].append(_latency(row.get("latency_ms")))
                else:
                    checks.append(build(TableCheck, row.get("check")))
            except ValueError as error:
                raise ValueError(
                    f"Line {number} of {path} must hold a latency or a check, got another ({error}). Delete that line."
                ) from error
        return cls(
            device=device,
            batch_size=batch_size,
            entries={key: statistics.median(values) for key, values in latencies_ms.items()},
            checks={check.space: check for check in checks},
        )

    def predict(self, plan: Plan) -> float:
        """Return the latency of a network in ms.

        Raises:
            ValueError: If the table lacks one of its layers.
        """
        try:
            return sum(self.entries[key] for key in plan_keys(plan))
        except KeyError as error:
            name = plan.spec.name if isinstance(plan, NetworkPlan) else "this space"
            raise ValueError(_lacks(error.args[0], name)) from error

    def check_covers(self, space: PlannedSpace) -> None:
        """Make sure that every network of a space can be predicted. Of chains no table holds all layers.

        Raises:
            ValueError: If the table lacks a layer.
        """
        keys = space_keys(space) if has_finite_keys(space) else []
        missing = next((key for key in keys if key not in self.entries), None)
        if missing is not None:
            raise ValueError(_lacks(missing, space.name))

    def describe(self) -> str:
        """Return a short text: the table's size, device and checks."""
        return self._description

    @cached_property
    def _description(self) -> str:
        checks = [f"; {check.describe()}" for check in self.checks.values()] or ["; unchecked"]
        device = f"{self.device.describe()}, batch size {self.batch_size}"
        return f"lookup table of {len(self.entries)} layers, {device}{''.join(checks)}"


class LookupLatency(Cost):
    """Latency by the lookup table.

    Args:
        space: The search space.
        table: A table that covers it; of chains, a network with a layer that the table lacks has no latency.

    Raises:
        ValueError: If the table lacks a layer of the space.
    """

    name = "latency"
    unit = "ms"

    def __init__(self, space: PlannedSpace, table: LatencyTable) -> None:
        table.check_covers(space)
        self.space = space
        self.table = table

    def __call__(self, architecture: Architecture) -> CostValue:
        """Return the predicted latency in ms."""
        latency_ms = self.table.predict(self.space.plan(architecture))
        return CostValue(value=latency_ms, unit=self.unit, source=self.table.describe(), quality="predicted")


def _read_header(header: Mapping[str, object], path: Path) -> tuple[DeviceFingerprint, int]:
    """Return the device and the batch size of a table.

    Raises:
        ValueError: If the line tells neither.
    """
    try:
        batch_size = build(int, header.get("batch_size"))
        if batch_size < 1:
            raise ValueError(f"a batch of {batch_size} images")
        return DeviceFingerprint.from_json(header.get("device")), batch_size
    except ValueError as error:
        raise ValueError(
            f"Line 1 of {path} must tell the device and the batch size, got another ({error}). Build the table again."
        ) from error


def check_same_device(device: DeviceFingerprint, path: Path) -> None:
    """Make sure that a table's device is this machine's. Threads are a setting of the table, not of the machine.

    Raises:
        ValueError: If it is not.
    """
    try:
        here = DeviceFingerprint.of(device.kind, threads=device.threads)
    except ValueError:  # a GPU's table where there is no GPU
        here = DeviceFingerprint.of("cpu")
    if here != device:
        raise ValueError(
            f"`path` must be a latency table of this device, {_full(here)}, got one of {_full(device)} in {path}. "
            "Build a table here, or pass any_device=True to predict for that device."
        )


def _latency(value: object) -> float:
    latency_ms = build(float, value)
    if latency_ms <= 0:
        raise ValueError(f"`latency_ms` must be positive, got {latency_ms}")
    return latency_ms


def _full(device: DeviceFingerprint) -> str:
    return f"{device.describe()}, {device.dtype}, {device.system}"


def _lacks(key: TableKey, space: str) -> str:
    wanted = ", ".join(f"{name} {value}" for name, value in key._asdict().items())
    return (
        f"`table` must hold every layer of {space!r}, got none for {wanted}. "
        "Call build_latency_table with the table's path and this space: only what is missing is measured."
    )
