"""The front, measured again."""

import numpy as np
from rich.console import Console

from nasray.records import RunDirectory
from nasray.spaces.mobile_networks import mobile_space
from nasray.tune.measured_again import Remeasure, check_front
from nasray.tune.progress import StageProgress


def test_networks_on_the_front_are_measured_again_and_compared(tmp_path) -> None:
    space = mobile_space("mobile-8", num_classes=10, in_channels=1)
    generator = np.random.default_rng(0)
    architectures = [space.random(generator) for _ in range(40)]
    run = RunDirectory.create(
        tmp_path / "run", method="m", preset="p", configuration={}, seed=0, data={"name": "d"}, resume=False
    )
    run.append_evaluations(
        {
            "sample_id": str(index),
            "arch_id": architecture.arch_id,
            "architecture": architecture.to_json(),
            "trial_id": str(index),
            "stage": "search",
            "status": "ok",
            "metrics": {"accuracy": (index + 1) / 50, "latency_ms": 1.0 + index},
        }
        for index, architecture in enumerate(architectures)
    )
    objectives = [("accuracy", "maximize", "fraction"), ("latency_ms", "minimize", "ms")]
    run.write_front([{"name": name, "direction": way, "unit": unit} for name, way, unit in objectives])
    truth = {architecture.arch_id: 2.0 * (1.0 + index) for index, architecture in enumerate(architectures)}
    again = Remeasure(
        metric="latency_ms", unit="ms", device="test", measure=lambda architecture: truth[architecture.arch_id]
    )
    check = check_front(run, again, StageProgress(Console(quiet=True)))
    assert len(check.networks) == 20
    assert check.kendall_tau == 1.0
    assert check.median_ratio == 0.5
    assert {network.arch_id for network in check.networks} >= {architectures[0].arch_id, architectures[-1].arch_id}
    assert run.read_json("cost_check.json")["metric"] == "latency_ms"
    other = Remeasure(metric="energy_mj", unit="mJ", device="test", measure=lambda architecture: 1.0)
    assert check_front(run, other, StageProgress(Console(quiet=True))) is None
