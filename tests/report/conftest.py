from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nasray.records import RunDirectory

LAYER = {
    "name": "b01.expand",
    "block": "b01",
    "kind": "conv",
    "in_channels": 16,
    "filters": 24,
    "initial_filters": 64,
    "bypassed_channels": 8,
    "out_channels": 32,
    "kernel": 3,
    "initial_kernel": 5,
    "stride": 2,
    "in_size": 32,
    "out_size": 16,
    "macs": 1000,
    "parameters": 100,
    "is_removed": False,
}


def result(label: str, **changes: Any) -> dict[str, Any]:
    row = {
        "label": label,
        "arch_id": "a0",
        "trial_id": "macs-0.50-seed0",
        "accuracy_supernet": 0.9,
        "test_accuracy": 0.95,
        "macs": 2_000_000,
        "parameters": 4_000,
        "memory_bytes": 8_000,
        "latency_ms": 4.0,
        "latency_spread_ms": 0.1,
        "device": "cpu",
        "target": None,
        "cost_name": "macs",
        "samples": 40,
        "iterations": 2,
        "model_dir": None,
        "layers": [LAYER],
    }
    return {**row, **changes}


def evaluation(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "sample_id": f"s{number}",
        "arch_id": f"a{number}",
        "metrics": {"accuracy": 0.9 - 0.01 * number, "macs": 1_000_000 - 1000 * number, "latency_ms": 4.0},
        "status": "ok",
        "reason": None,
        "trial_id": "macs-0.50-seed0",
        "stage": "search",
        "iteration": number // 4,
        "selected": number % 4 == 0,
        "budget": 1_000_000.0,
        "cost_name": "macs",
        "cost": 1_000_000 - 1000 * number,
    }
    return {**row, **changes}


@pytest.fixture
def empty_run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(
        tmp_path / "run",
        method="NetAdaptV2",
        preset="digits",
        configuration={"search": {"iterations": 2}},
        seed=0,
        data={"name": "digits", "fingerprint": "sha256:00"},
        resume=False,
    )


@pytest.fixture
def full_run(empty_run: RunDirectory) -> RunDirectory:
    run = empty_run
    run.append_evaluations([evaluation(number) for number in range(8)])
    run.append_evaluations([evaluation(8, trial_id="macs-0.25-seed0", selected=True)])
    run.append_evaluations([evaluation(9, status="failed", reason="out of memory", metrics={})])
    found = result("macs <= 50%", macs=1_000_000, target=1_000_000, latency_predicted_ms=3.0, test_accuracy=0.93)
    run.update(results=[result("initial", trial_id=None), found], status="done", command=["python", "a b.py"])
    run.add_stage("search", 90.0, started="2026-01-01T00:00:00+00:00", device="cpu")
    return run


@pytest.fixture
def make_result() -> Callable[..., dict[str, Any]]:
    return result


@pytest.fixture
def make_evaluation() -> Callable[..., dict[str, Any]]:
    return evaluation


@pytest.fixture
def layer() -> dict[str, Any]:
    return dict(LAYER)
