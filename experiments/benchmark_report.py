"""What a report of many evaluations costs: the time to write it, its size, and the time until a browser has drawn it.

The run is made up and realistic: chains of layers evolve for accuracy, multiply-adds and latency under a limit, some
fail, and every evaluation has its energy. Loading ends when the last figure is drawn, in headless Chromium with a fresh
profile; without a Chromium only the writing is measured.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from _benchmark import Parser, at_least, write_json
from _browser import Browser, find_browser

from nasray.carbon.intensity import CarbonIntensity
from nasray.carbon.lease import OVERHEAD, Lease
from nasray.carbon.ledger import EnergyLedger
from nasray.records import RunDirectory
from nasray.report import write_report
from nasray.spaces.chain import ChainSpace

GOAL_BYTES, GOAL_LOAD_S, GOAL_WRITE_S = 8_000_000, 3.0, 30.0
DRAWN = "document.documentElement?.dataset.drawn === 'all'"
_OBJECTIVES: list[dict[str, Any]] = [
    {"name": "accuracy", "direction": "maximize", "unit": "", "ideal": 1.0},
    {"name": "macs", "direction": "minimize", "unit": "", "ideal": None},
    {"name": "latency_ms", "direction": "minimize", "unit": "ms", "ideal": None},
]
_DOMAINS = {"cpu": 0.7, "ram": 0.3}
_REASONS = ("time-out: took longer than 600 s", "diverged: loss is nan", "out of memory: 2 GiB")


def make_run(folder: Path, num_evaluations: int, seed: int = 0) -> RunDirectory:
    """Write a run that looks like a long evolution.

    Args:
        folder: Where; must be new or empty.
        num_evaluations: Candidates.
        seed: Of everything drawn.
    """
    generator = np.random.default_rng(seed)
    space = ChainSpace(num_classes=10, in_channels=3, resolution=32)
    run = RunDirectory.create(
        folder,
        method="evolution",
        preset="made-up",
        configuration={"objectives": _OBJECTIVES, "constraints": ["latency_ms<=20"], "space": space.name},
        seed=seed,
        data={"name": "made-up data", "fingerprint": f"sha256:{seed:064x}"},
        resume=False,
    )
    rows = [_evaluation(space, number, num_evaluations, generator) for number in range(num_evaluations)]
    run.append_evaluations(rows)
    energy_j = sum(row["metrics"].get("energy_j", 0.0) for row in rows)
    run.write_json("energy.json", _account(energy_j, len(rows)))
    run.write_front(_OBJECTIVES)
    run.add_stage("search", 3.1 * num_evaluations, started="2026-01-01T00:00:00+00:00", device="cpu")
    run.update(status="done", command=["python", "experiments/benchmark_report.py", "--evaluations", str(len(rows))])
    return run


def _evaluation(space: ChainSpace, number: int, count: int, generator: np.random.Generator) -> dict[str, Any]:
    """Return a candidate; those that come later are better on average."""
    architecture = space.random(generator)
    ripeness = number / count
    macs = float(np.exp(generator.normal(16.5 - ripeness, 1.4)))
    latency_ms = 0.3 + macs / 4e6 * float(np.exp(generator.normal(0, 0.25)))
    best = 0.95 - 0.5 * np.exp(-(np.log(macs) - 10) / 2.5)
    accuracy = float(np.clip(best - generator.gamma(1.2, 0.09) * (1.1 - 0.6 * ripeness), 0.1, 0.99))
    energy_j = float(generator.gamma(4, 20))
    row: dict[str, Any] = {
        "sample_id": f"{number}/{architecture.arch_id}",
        "arch_id": architecture.arch_id,
        "architecture": architecture.to_json(),
        "trial_id": str(number),
        "stage": "search",
        "status": "ok",
        "reason": None,
        "seconds": energy_j / 26,
        "time": "2026-01-01T00:00:00+0000",
        "metrics": {
            "accuracy": round(accuracy, 4),
            "macs": round(macs),
            "latency_ms": latency_ms,
            "parameters": round(macs / 40 * float(generator.uniform(0.5, 2))),
            "energy_j": energy_j,
            "carbon_g": energy_j / 3.6e6 * 475,
        },
    }
    if generator.random() < 0.06:
        reason = _REASONS[generator.choice(3, p=(0.5, 0.3, 0.2))]
        metrics = {name: row["metrics"][name] for name in ("energy_j", "carbon_g")}
        row |= {"status": "infeasible" if "memory" in reason else "failed", "reason": reason, "metrics": metrics}
    return row


def _account(energy_j: float, num_trials: int) -> dict[str, Any]:
    """Return an energy account of four nodes that share the work, one of them with counters."""
    ledger = EnergyLedger(intensity=CarbonIntensity(g_per_kwh=475.0, source="made up"))
    ledger.hours = 3.1 * num_trials / 3600 / 4
    for node in range(4):
        ledger.add(_snapshot(node, energy_j / 4, num_trials // 4, "measured" if node == 0 else "estimated"))
    ledger.check()
    return ledger.to_json()


def _snapshot(node: int, energy_j: float, num_trials: int, quality: str) -> dict[str, Any]:
    """Return what the meter of a node counted: its trials and what steers them, other work, and idle time."""
    owners = {f"trials-{node}": ("search", 0.95), OVERHEAD: ("search overhead", 0.05)}
    leases = {
        f"{node}-{owner}": {
            "lease": asdict(Lease(owner=owner, stage=stage, pid=1, process_created_s=0.0)),
            "energy": _lease_energy(owner, stage, energy_j * share, num_trials, quality),
        }
        for owner, (stage, share) in owners.items()
    }
    return {
        "node": f"{node}" * 8,
        "meter_id": f"meter {node}",
        "sequence": 1,
        "duration_s": 3.1 * num_trials,
        "clock_steps_back": 0,
        "domains": {name: _domain(name, leases, energy_j * part, quality) for name, part in _DOMAINS.items()},
        "leases": leases,
    }


def _lease_energy(owner: str, stage: str, energy_j: float, num_trials: int, quality: str) -> dict[str, Any]:
    known = {"quality": quality, "source": "made up", "missing_s": 0.0}
    domains = {name: {"energy_j": energy_j * part, **known} for name, part in _DOMAINS.items()}
    told = {"owner": owner, "stage": stage, "domains": domains, "duration_s": 3.1 * num_trials}
    return told | {"num_attempts": num_trials, "closed_by": "caller", "energy_j": energy_j, **known}


def _domain(name: str, leases: dict[str, Any], energy_j: float, quality: str) -> dict[str, Any]:
    trials_j = sum(lease["energy"]["domains"][name]["energy_j"] for lease in leases.values())
    parts = {"trials_j": trials_j, "other_j": 0.2 * energy_j, "idle_j": 0.4 * energy_j}
    meter = {"quality": quality, "source": "made up", "idle_power_w": 5.0, "missing_s": 0.0}
    return {"node_j": sum(parts.values()), **parts, **meter}


def load_times(browser: str, report: Path, repeats: int) -> tuple[list[float], list[float]]:
    """Return the seconds until all figures of a report are drawn, and those that the page computed meanwhile.

    On a machine with nothing else to do both are nearly the same. Each time it is a browser of its own.
    """
    loading, busy = [], []
    for _ in range(repeats):
        with Browser(browser) as chromium:
            chromium.watch_time()
            loading.append(chromium.load(report, until=DRAWN))
            busy.append(chromium.busy_s())
            if chromium.problems:
                raise RuntimeError(f"The report has problems: {chromium.problems}")
    return loading, busy


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--evaluations", type=at_least(10), default=10_000, help="candidates of the run")
    parser.add_argument("--repeats", type=at_least(1), default=5, help="how often to write and to load; medians count")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where to keep the run and its report")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = make_run(arguments.keep or Path(scratch) / "run", arguments.evaluations)
        writing = []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            report = write_report(run)
            writing.append(time.perf_counter() - start)
        size = report.stat().st_size
        browser = find_browser()
        loading, busy = load_times(browser, report, arguments.repeats) if browser else ([], [])
    write_s = statistics.median(writing)
    load_s, busy_s = (statistics.median(seconds) if seconds else None for seconds in (loading, busy))
    print(f"{arguments.evaluations:,} evaluations, medians of {arguments.repeats}:")
    print(f"  written in {write_s:.2f} s (goal {GOAL_WRITE_S:.0f} s)")
    print(f"  {size / 1e6:.2f} MB (goal {GOAL_BYTES / 1e6:.0f} MB)")
    if load_s is None:
        print("  no Chromium to load it")
    else:
        print(f"  drawn in {load_s:.2f} s (goal {GOAL_LOAD_S:.0f} s), of which the page computed {busy_s:.2f} s")
    figures = {"evaluations": arguments.evaluations, "write_s": write_s, "size_bytes": size}
    times = {"load_s": load_s, "busy_s": busy_s, "writing_s": writing, "loading_s": loading}
    write_json(arguments.json, figures | times)


if __name__ == "__main__":
    main()
