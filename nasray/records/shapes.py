"""What the parts of a run's records must look like, where they are there; parts of other names are not looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nasray.reading import build
from nasray.records.files import RunError

Number = int | float
Leaf = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class _Stage:
    name: str
    seconds: float
    started: str
    device: str

    def __post_init__(self) -> None:
        if self.seconds < 0:
            raise ValueError(f"`seconds` of stage {self.name!r} must be 0 or more, got {self.seconds}")


@dataclass(frozen=True, kw_only=True)
class _TradeOff:
    network: str
    arch_id: str
    trial_id: str
    metrics: dict[str, float]
    saves: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class _Total:
    energy_j: float | None
    hours: float


@dataclass(frozen=True, kw_only=True)
class _Bill:
    total: dict[str, Leaf]
    calibration: str

    def __post_init__(self) -> None:
        build(_Total, {name: self.total.get(name) for name in _Total.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Parts of `run.json` that are read again; what is there is not null, but for the bill."""

    method: str = ""
    preset: str = ""
    configuration: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    versions: dict[str, Leaf] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    status: Literal["running", "done", "interrupted", "failed"]
    created: str = ""
    updated: str = ""
    notices: list[str] = field(default_factory=list)
    stages: list[_Stage] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    trade_offs: list[_TradeOff] = field(default_factory=list)
    spent: list[str] = field(default_factory=list)
    break_even: list[str] = field(default_factory=list)
    bill: dict[str, Any] | None = None
    command: list[str] | str = ""
    front_objectives: list[dict[str, Leaf]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """Parts of a layer that a report draws."""

    name: str = ""
    block: str = ""
    kind: str = ""
    in_channels: float | None = None
    filters: float | None = None
    initial_filters: float | None = None
    bypassed_channels: float | None = None
    out_channels: float | None = None
    kernel: float | None = None
    initial_kernel: float | None = None
    stride: float | None = None
    in_size: float | None = None
    out_size: float | None = None
    macs: float | None = None
    parameters: float | None = None
    is_removed: bool | None = None


@dataclass(frozen=True, kw_only=True)
class _Result:
    """Parts of a row of `results` that a report shows."""

    label: str = ""
    arch_id: str = ""
    trial_id: str | None = None
    cost_name: str | None = None
    device: str | None = None
    model_dir: str | None = None
    accuracy_supernet: float | None = None
    test_accuracy: float | None = None
    macs: float | None = None
    parameters: float | None = None
    memory_bytes: float | None = None
    latency_ms: float | None = None
    latency_predicted_ms: float | None = None
    latency_spread_ms: float | None = None
    target: float | None = None
    samples: int | None = None
    iterations: int | None = None
    layers: list[dict[str, Leaf]] | None = None


@dataclass(frozen=True, kw_only=True)
class _Evaluation:
    """Parts of a line of `evaluations.jsonl` that are read again."""

    sample_id: str
    arch_id: str = ""
    trial_id: str | None = None
    status: str = "ok"
    stage: str | None = None
    reason: str | None = None
    cost_name: str | None = None
    metrics: dict[str, float | None] | None = None
    iteration: Number | None = None
    budget: float | None = None
    cost: float | None = None
    seconds: float | None = None
    architecture: dict[str, Any] | None = None


def check_run(run: Mapping[str, Any], path: Path) -> None:
    """Make sure that the parts of a `run.json` are of their types.

    Raises:
        RunError: If one is not.
    """
    try:
        _check(_Run, run)
        if bill := run.get("bill"):
            _check(_Bill, bill)
        for row in run.get("results") or ():
            _check(_Result, row)
            for layer in row.get("layers") or ():
                _check(_Layer, layer)
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}). Restore it from a copy or choose another --run-dir.") from error


def check_evaluation(row: Mapping[str, Any], path: Path, number: int) -> None:
    """Make sure that the parts of an evaluation are of their types.

    Raises:
        RunError: If one is not.
    """
    try:
        _check(_Evaluation, row)
    except ValueError as error:
        raise RunError(f"Line {number} of {path} is damaged ({error}). Correct or delete that line.") from error


def _check(kind: type[Any], value: Mapping[str, Any]) -> None:
    build(kind, {name: value[name] for name in kind.__dataclass_fields__ if name in value})
