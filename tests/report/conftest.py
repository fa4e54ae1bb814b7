import importlib
from collections.abc import Callable, Iterator
from functools import cache
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


@pytest.fixture(scope="session")
def experiment() -> Iterator[Callable[[str], Any]]:
    """Imports a file of the experiments by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "experiments")
        yield importlib.import_module


@pytest.fixture(scope="session")
def chromium(experiment: Callable[[str], Any]) -> Iterator[Any]:
    """A headless Chromium for all tests; without one they are skipped."""
    module = experiment("_browser")
    path = module.find_browser()
    if path is None:
        pytest.skip(f"no Chromium to look at the report with: install one of {', '.join(module.NAMES)}")
    with module.Browser(path) as chromium:
        yield chromium


@pytest.fixture
def browser(chromium: Any) -> Any:
    """The Chromium, with a wide and light page."""
    chromium.size(1280, 900)
    chromium.color_scheme("light")
    return chromium


@pytest.fixture(scope="session")
def made_up_run(
    experiment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], RunDirectory]:
    """Makes a run of so many evaluations, with failures, infeasible candidates and an energy account; each once."""
    module = experiment("benchmark_report")

    @cache
    def make(count: int) -> RunDirectory:
        return module.make_run(tmp_path_factory.mktemp("made-up") / "run", count)

    return make
