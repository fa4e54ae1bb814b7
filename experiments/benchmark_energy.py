"""What the energy account costs and whether it adds up, beside what a codecarbon tracker in every trial would claim.

Trials without work run with and without an EnergyCallback, turn by turn, one at a time, reusing actors; the difference
of their medians is what metering adds to a trial (baseline: without). Then four trials compute at once, each with a
codecarbon tracker of its own: the account's parts are set against the node's energy, and the trackers' sum as well.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
from _benchmark import Parser, at_least, spread, write_json
from ray import tune

from nasray.carbon.intensity import CarbonIntensity
from nasray.tune.energy import EnergyCallback
from nasray.tune.energy.account import ClusterAccount
from nasray.tune.energy.leases import open_lease_here
from nasray.tune.session import ClusterConfig, ray_session

GOAL_MS, GOAL_SHARE, GOAL_MB, GOAL_CONSERVATION = 5.0, 0.005, 5.0, 1e-9
HALF = CarbonIntensity(g_per_kwh=500.0, source="benchmark")


class Idle(tune.Trainable):
    """Reports once and does nothing."""

    def step(self) -> dict[str, Any]:
        """Report."""
        return {"value": 1.0, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on with the next trial."""
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Save nothing."""
        return {}


class Leased:
    """Takes a lease and tells what that did to its memory."""

    def start(self) -> float:
        """Return the memory that the lease took, in MB."""
        process = psutil.Process()
        before = process.memory_info().rss
        lease = open_lease_here("leased", "benchmark")
        if lease is not None:
            lease.energy()
        return (process.memory_info().rss - before) / 1e6


def claimed(config: dict[str, Any]) -> None:
    """Compute for a while under a codecarbon tracker of the trial's own."""
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code="FRA",
        tracking_mode="machine",
        measure_power_secs=1,
        output_methods=[],
        allow_multiple_runs=True,
        log_level="critical",
    )
    tracker.start()
    end, value = time.monotonic() + config["seconds"], 0
    while time.monotonic() < end:
        value += 1
    tracker.stop()
    tune.report({"claimed_kwh": tracker.final_emissions_data.energy_consumed, "value": value})


def fit(trainable: Any, space: dict[str, Any], storage: str, callbacks: list[Any], *, num_samples: int = 1) -> Any:
    """Run trials and return their results."""
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(num_samples=num_samples, reuse_actors=True, max_concurrent_trials=4),
        run_config=tune.RunConfig(
            callbacks=callbacks,
            storage_path=storage,
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()


def added_ms(account: ClusterAccount, storage: str, *, trials: int, turns: int) -> dict[str, float]:
    """Return what the callback adds to a trial, in ms, over turns of trials with and without it."""
    differences = []
    for turn in range(turns + 1):
        times = []
        for callbacks in ([], [EnergyCallback(account=account)]):
            start = time.perf_counter()
            fit(tune.with_resources(Idle, {"cpu": 1}), {}, storage, callbacks, num_samples=trials)
            times.append(1e3 * (time.perf_counter() - start) / trials)
        if turn:  # the first one warms up
            differences.append(times[1] - times[0])
    return spread(np.array(differences))


def shares(account: ClusterAccount, idle: Any, seconds: float) -> tuple[float, float]:
    """Return the share of a core that this node's meter takes while leases are open, and that of an idle Ray actor."""
    (meter,) = account._meters.values()
    pids = [ray.get(actor.__ray_call__.remote(lambda self: psutil.Process().pid)) for actor in (meter, idle)]
    before, start = [cpu_s(pid) for pid in pids], time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - start
    meter_share, idle_share = ((cpu_s(pid) - first) / took for pid, first in zip(pids, before, strict=True))
    return meter_share, idle_share


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def conservation(storage: str, seconds: float) -> dict[str, Any]:
    """Return how well four trials at once add up, and what four codecarbon trackers claim of the same energy."""
    account = ClusterAccount(HALF, folder=Path(storage))
    with account:
        before = node_j(account)
        trainable = tune.with_resources(claimed, {"cpu": 0.25})
        results = fit(
            trainable, {"seconds": tune.grid_search([seconds] * 4)}, storage, [EnergyCallback(account=account)]
        )
    account.ledger.check()
    errors = [
        abs(domain["trials_j"] + domain["other_j"] + domain["idle_j"] - domain["node_j"]) / domain["node_j"]
        for domains in account.ledger.nodes().values()
        for domain in domains.values()
        if domain["node_j"]
    ]
    owners = {result.metrics["trial_id"] for result in results}
    trials_j = sum(energy.energy_j or 0.0 for owner, energy in account.ledger.owners().items() if owner in owners)
    total_j = node_j(account) - before
    claims_j = 3.6e6 * sum(result.metrics["claimed_kwh"] for result in results)
    return {
        "largest_error": max(errors),
        "node_j": total_j,
        "trials_j": trials_j,
        "codecarbon_claims_j": claims_j,
        "trials_over_node": trials_j / total_j,
        "claims_over_node": claims_j / total_j,
    }


def node_j(account: ClusterAccount) -> float:
    """Return the energy of all nodes so far."""
    domains = [domain for node in account.ledger.nodes().values() for domain in node.values()]
    return sum(domain["node_j"] or 0.0 for domain in domains)


def main() -> None:
    """Measure all of it."""
    parser = Parser(__doc__)
    parser.add_argument("--trials", type=at_least(1), default=100, help="trials of a turn")
    parser.add_argument("--turns", type=at_least(1), default=5, help="turns with and without metering")
    parser.add_argument("--seconds", type=at_least(5), default=20, help="how long to watch the meter and to compute")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as storage, ray_session(ClusterConfig(num_cpus=1)):
        with ClusterAccount(HALF, is_cross_checked=False) as account:
            added = added_ms(account, storage, trials=arguments.trials, turns=arguments.turns)
            actor: Any = ray.remote(Leased)
            idle, *leased = [actor.options(num_cpus=0, max_concurrency=4).remote() for _ in range(5)]
            memory_mb = statistics.median(ray.get([worker.start.remote() for worker in leased]))
            meter, idle_share = shares(account, idle, arguments.seconds)
        parts = conservation(storage, arguments.seconds)
    report(
        "added to a trial",
        f"{added['median']:.2f} ms ({added['q25']:.2f} to {added['q75']:.2f})",
        added["median"],
        GOAL_MS,
    )
    share = meter - idle_share
    text = f"{share:.2%} of a core with 5 leases ({meter:.2%} less the {idle_share:.2%} of an idle Ray actor)"
    report("metering a node", text, share, GOAL_SHARE)
    report("in a trial's process", f"{memory_mb:.2f} MB", memory_mb, GOAL_MB)
    report(
        "trials + other + idle = node", f"to {parts['largest_error']:.1e}", parts["largest_error"], GOAL_CONSERVATION
    )
    print(
        f"  four trials were charged {parts['trials_j']:.0f} J of the node's {parts['node_j']:.0f} J "
        f"({parts['trials_over_node']:.2f}x); four codecarbon trackers claim {parts['codecarbon_claims_j']:.0f} J "
        f"({parts['claims_over_node']:.2f}x)"
    )
    write_json(
        arguments.json,
        {"added_ms": added, "meter_share": share, "idle_actor_share": idle_share, "memory_mb": memory_mb, **parts},
    )


def report(what: str, text: str, value: float, goal: float) -> None:
    """Print a figure beside its goal."""
    print(f"  {what}: {text}; goal {goal:g}: {'met' if value <= goal else 'missed'}")


if __name__ == "__main__":
    main()
