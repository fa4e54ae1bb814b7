"""A search on a cluster: where its candidates ran, the energy ledger of each node, and what the loss of a node costs.

Starts two nodes of Ray on this machine, searches over both, and searches again with the second one killed while it
evaluates, with all its workers at once. With --address it searches once on a cluster that is up, and kills nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _benchmark import Parser, at_least, write_json
from _raylets import Raylet, TwoNodes

from nasray.architecture import Architecture
from nasray.carbon.intensity import carbon_intensity
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.records import RunDirectory
from nasray.spaces.cell import CellSpace
from nasray.strategies.random_search import RandomSearch

STARTS = "starts.txt"


@dataclass(frozen=True)
class Busy:
    """Makes evaluators that compute for a while and write down where they began what."""

    seconds: float
    starts: Path

    def __call__(self) -> Callable[[Architecture], Evaluation]:
        """Return an evaluator."""
        import ray

        node = ray.get_runtime_context().get_node_id()

        def evaluate(architecture: Architecture) -> Evaluation:
            with self.starts.open("a", encoding="utf-8") as file:
                file.write(f"{architecture.arch_id} {node} {time.time()}\n")
            end = time.monotonic() + self.seconds
            while time.monotonic() < end:
                sum(range(1000))
            return Evaluation(metrics={"accuracy": int(architecture.arch_id[:4], 16) / 65536})

        return evaluate


def search(folder: Path, arguments: Namespace) -> dict[str, Any]:
    """Search on the Ray that is up, or go on with what the folder holds, and return the figures."""
    from nasray.tune.candidate_search_run import run_search
    from nasray.tune.energy.account import ClusterAccount
    from nasray.tune.workers import Workers

    run = RunDirectory.create(
        folder,
        method="random",
        preset="cluster benchmark",
        configuration={"candidates": arguments.candidates},
        seed=0,
        data={},
        resume=(folder / "run.json").exists(),
    )
    strategy = RandomSearch(
        CellSpace(),
        Pareto([Objective(name="accuracy", direction="maximize")]),
        num_evaluations=arguments.candidates,
        generator=np.random.default_rng(0),
    )
    start = time.perf_counter()
    with ClusterAccount(carbon_intensity("world"), folder=folder, is_cross_checked=False) as account:
        run_search(
            strategy,
            Busy(arguments.seconds, folder.resolve() / STARTS),
            workers=Workers.available(),
            run=run,
            account=account,
        )
        seconds = time.perf_counter() - start
    account.ledger.check()
    return {"seconds": seconds, **spread_of(run), "energy": account.ledger.to_json()}


def pool_search(folder: Path, on_iteration: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Run a short NetAdaptV2 search with one evaluator per processor.

    Args:
        folder: For Ray's state.
        on_iteration: Called in this process after each iteration.

    Returns:
        "evaluators_by_node": how many there were, restarted ones included; "samples": candidates that the iterations
        asked for; "evaluations": candidates that came back.
    """
    import ray
    from ray import tune

    from nasray.data import load_image_data
    from nasray.hardware.registry import make_cost
    from nasray.models.supernet import Supernet
    from nasray.spaces.mobile import MobileSpace
    from nasray.spaces.mobile_networks import mobile_8
    from nasray.training.candidates import CandidateConfig, comparison_data
    from nasray.training.jobs import to_numpy
    from nasray.tune.driver_callback import DriverCallback
    from nasray.tune.energy.account import ClusterAccount
    from nasray.tune.netadapt_settings import PRESETS
    from nasray.tune.search_trial import SearchTask, SearchTrial
    from nasray.tune.session import run_trials
    from nasray.tune.storage_folder import StorageFolder
    from nasray.tune.workers import Workers

    class Iterations(DriverCallback):
        """Counts what came back."""

        def __init__(self) -> None:
            self.evaluations = 0
            self.then: Callable[[], None] = lambda: None

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
            self.evaluations += sum(row["status"] == "ok" for row in result.pop("evaluations", []))
            self.then()

    torch.manual_seed(0)
    space = MobileSpace(mobile_8())
    cost = make_cost("macs", space)
    settings = replace(PRESETS["quick"](), num_samples=8)
    task = SearchTask(
        network=space.spec,
        weights=ray.put(to_numpy(Supernet(space))),
        data=ray.put(comparison_data(load_image_data(None), CandidateConfig())),
        cost=cost,
        descent=settings.descent(0.9 * cost(space.largest()).value),
        candidates=CandidateConfig(),
        workers=Workers.available(),
        seed=0,
    )
    seen = Iterations()
    seen.then = on_iteration  # kept out of the class, which Ray pickles
    with ClusterAccount(carbon_intensity("world"), is_cross_checked=False) as account:
        results = run_trials(
            tune.with_parameters(SearchTrial, tasks={"search": task}),
            ["search"],
            stage="search-1",
            storage=StorageFolder.local(folder),
            resources=task.resources(),
            callbacks=[seen],
            resume_from={},
        )
    evaluators = {
        meter["node"]: sum(entry["energy"]["stage"] == "search" for entry in meter["leases"].values())
        for meter in account.ledger.to_json()["meters"]
    }
    samples = (results["search"].metrics or {})["num_samples"]
    return {"evaluators_by_node": evaluators, "samples": samples, "evaluations": seen.evaluations}


def starts_in(folder: Path) -> list[list[str]]:
    """Return architecture id, node and time in seconds of each candidate that was begun, in that order."""
    path = folder / STARTS
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def spread_of(run: RunDirectory) -> dict[str, Any]:
    """Return how many candidates were recorded, began on each node, and began more than once."""
    starts = starts_in(run.path)
    recorded = {row["arch_id"] for row in run.evaluations() if row["status"] == "ok"}
    return {
        "recorded": len(recorded),
        "repeated": sum(count - 1 for count in Counter(arch_id for arch_id, *_ in starts).values()),
        "begun_by_node": dict(Counter(node for _, node, _ in starts)),
    }


def describe(title: str, figures: dict[str, Any], asked: int) -> None:
    """Print the figures of one search."""
    print(
        f"\n{title}: {asked} asked, {figures['recorded']} recorded, {asked - figures['recorded']} lost, "
        f"{figures['repeated']} repeated, {figures['seconds']:.1f} s"
    )
    print(f"{'node':10}{'begun':>6}{'trials J':>11}{'other J':>11}{'idle J':>11}{'node J':>11}  ended")
    energy = figures["energy"]
    for node, ledger in energy["nodes"].items():
        known = [domain for domain in ledger["domains"].values() if domain["node_j"] is not None]
        parts = {part: sum(domain[part] for domain in known) for part in ("trials_j", "other_j", "idle_j", "node_j")}
        _line(node[:8], figures["begun_by_node"].get(node, 0), parts, ledger.get("ended", ""))
    _line("all", sum(figures["begun_by_node"].values()), energy["total"], "")


def describe_pool(title: str, figures: dict[str, Any]) -> None:
    """Print the figures of a NetAdaptV2 search."""
    counts = ", ".join(f"{count} on {node[:8]}" for node, count in figures["evaluators_by_node"].items())
    print(f"\n{title}: {counts}; {figures['samples']} samples, {figures['evaluations']} evaluations")


def _line(name: str, begun: int, parts: dict[str, float], ended: str) -> None:
    figures = "".join(f"{parts[part]:11.1f}" for part in ("trials_j", "other_j", "idle_j", "node_j"))
    print(f"{name:10}{begun:6}{figures}  {ended}")


def on_two_nodes(arguments: Namespace, folder: Path) -> dict[str, Any]:
    """Search on two nodes of this machine, and again with the second one killed while it evaluates."""
    with TwoNodes(folder / "ray") as cluster:
        # Read by Ray when it is imported: this process is one of the cluster's.
        os.environ |= {name: value for name, value in cluster.environment.items() if name.startswith("RAY_")}
        cluster.start(cpus=1, resources={"first": 1})
        second = cluster.start(cpus=1, resources={"second": 1})
        from nasray.tune.session import ClusterConfig, ray_session

        with ray_session(ClusterConfig(address=cluster.address)):
            whole = search(folder / "whole", arguments)
            describe("Two nodes", whole, arguments.candidates)
            pool = pool_search(folder / "pool")
            describe_pool("NetAdaptV2's evaluators", pool)
            watch = threading.Thread(
                target=_kill_in_the_middle, args=(second, folder / "killed", arguments), daemon=True
            )
            watch.start()
            killed = search(folder / "killed", arguments)
            watch.join(timeout=10)
            describe("Second node killed", killed, arguments.candidates)
            third = cluster.start(cpus=1, resources={"third": 1})
            pool_killed = pool_search(folder / "pool_killed", lambda: None if third.has_ended() else third.kill())
            describe_pool("NetAdaptV2's evaluators, one node killed after the first iteration", pool_killed)
    return {"two_nodes": whole, "pool": pool, "node_killed": killed, "pool_node_killed": pool_killed}


def _kill_in_the_middle(second: Raylet, folder: Path, arguments: Namespace) -> None:
    """Kill the second node in the first half of a candidate, once a quarter of all candidates has begun."""
    import ray

    node_id = next(node["NodeID"] for node in ray.nodes() if "second" in node["Resources"])
    while True:
        time.sleep(0.02)
        starts = starts_in(folder)
        began_s = [float(start_s) for _, node, start_s in starts if node == node_id]
        is_early = bool(began_s) and 0 <= time.time() - began_s[-1] < arguments.seconds / 2
        if is_early and len(starts) >= arguments.candidates / 4:
            second.kill()
            return


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--candidates", type=at_least(2), default=60, help="candidates of each search")
    parser.add_argument("--seconds", type=float, default=1.0, help="what each candidate takes")
    parser.add_argument("--address", help="cluster to search on: auto or its address; by default one is started here")
    parser.add_argument("--run-dir", type=Path, help="run directory to begin or go on with; needs --address")
    arguments = parser.parse_args()
    if (arguments.run_dir is None) != (arguments.address is None):
        parser.error("--address and --run-dir belong together: name both, with a folder that all nodes share, or none.")
    if not arguments.seconds >= 0:
        parser.error(f"--seconds must be at least 0, got {arguments.seconds}.")
    if arguments.address is None:
        folder = Path(tempfile.mkdtemp(prefix="nr"))
        try:
            figures = on_two_nodes(arguments, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        from nasray.tune.session import ClusterConfig, ray_session

        with ray_session(ClusterConfig(address=arguments.address)):
            found = search(arguments.run_dir, arguments)
        describe("The cluster", found, arguments.candidates)
        figures = {"cluster": found}
    settings = {key: value for key, value in vars(arguments).items() if key in ("candidates", "seconds")}
    write_json(arguments.json, {**settings, **figures})


if __name__ == "__main__":
    main()
