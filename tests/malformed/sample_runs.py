"""A run directory with every file that a report reads."""

from nasray.carbon.account import LocalAccount
from nasray.carbon.intensity import CarbonIntensity
from nasray.hardware.front_check import FILE as COST_CHECK
from nasray.hardware.front_check import CheckedNetwork, CostCheck
from nasray.records import RunDirectory


def made(folder):
    """Make a run directory with every file that a report reads."""
    settings = {"configuration": {"a": 1}, "data": {"name": "digits", "fingerprint": "x"}}
    run = RunDirectory.create(folder, method="optuna-nsga2", preset="cell", seed=0, resume=False, **settings)
    rows = [
        {"sample_id": f"{n}/a{n}", "arch_id": f"a{n}", "trial_id": str(n), "stage": "search", "status": "ok"}
        | {"metrics": {"accuracy": n / 10, "macs": 100.0 * n}, "reason": None, "seconds": 0.5, "iteration": n}
        | {"architecture": {"space": "cell", "choices": {"a": n}}}
        for n in range(4)
    ]
    run.append_evaluations(rows)
    run.add_stage("search", 1.5, started="2026-01-01T00:00:00+00:00", device="cpu")
    run.write_front(
        [{"name": "accuracy", "unit": "", "direction": "maximize"}, {"name": "macs", "direction": "minimize"}]
    )
    networks = [
        CheckedNetwork(arch_id=f"a{n}", label="x", predicted=n, measured=n + 1.0, spread=0.1) for n in (1.0, 2.0)
    ]
    run.write_json(COST_CHECK, CostCheck.of(networks, metric="latency_ms", unit="ms", device="cpu").to_json())
    layer = {"name": "b.c", "block": "b", "kind": "conv", "in_channels": 3, "filters": 8, "initial_filters": 8}
    layer |= {"bypassed_channels": 0, "out_channels": 8, "kernel": 3, "initial_kernel": 5, "stride": 1, "in_size": 8}
    layer |= {"out_size": 8, "macs": 9, "parameters": 9, "is_removed": False}
    row = {"label": "x", "arch_id": "a1", "trial_id": "1", "accuracy_supernet": 0.1, "macs": 100, "layers": [layer]}
    trade_off = {
        "network": "best",
        "arch_id": "a1",
        "trial_id": "1",
        "metrics": {"accuracy": 0.1},
        "saves": {"macs": 2.0},
    }
    run.update(status="done", results=[row], trade_offs=[trade_off], spent=["Spent: 1 h"], command=["python", "x"])
    with LocalAccount(CarbonIntensity(g_per_kwh=500.0, source="test"), pue=1.5, folder=folder):
        pass
    return run
