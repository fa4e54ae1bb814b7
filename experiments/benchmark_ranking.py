"""Say how well a supernet's accuracy ranks networks: Kendall's tau with their stand-alone accuracy.

Networks are drawn over a range of MACs, or all with the same MACs (`--share`), which is what a search compares and is
harder. Each is trained from scratch once and tested; tau is taken for every batch-norm policy, with a 95 % bootstrap
interval over the networks. Baseline: ranking the networks by their MACs.
"""

from __future__ import annotations

import argparse

import numpy as np
from _benchmark import Parser, Workload, at_least, spread, write_json

from nasray.architecture import Architecture
from nasray.models.supernet import Supernet
from nasray.strategies.shrinking import Shrinker
from nasray.training.candidates import CandidateConfig, CandidateEvaluator
from nasray.training.evaluate import NORM_POLICIES

SHARES = (0.15, 0.9)


def kendall_tau(x_N: np.ndarray, y_N: np.ndarray) -> float:
    """Return Kendall's tau-b: 1 for the same order, -1 for the reverse, pairs tied in x or in y left out."""
    x_NN, y_NN = np.sign(x_N[:, None] - x_N), np.sign(y_N[:, None] - y_N)
    norm = np.sqrt(float((x_NN**2).sum() * (y_NN**2).sum()))
    return float((x_NN * y_NN).sum() / norm) if norm else 0.0


def with_interval(x: list[float], y: list[float], *, resamples: int = 2000) -> dict[str, float]:
    """Return tau and its 95 % bootstrap interval over the networks."""
    x_N, y_N = np.array(x), np.array(y)
    rows = np.random.default_rng(0).integers(len(x_N), size=(resamples, len(x_N)))
    low, high = np.quantile([kendall_tau(x_N[row], y_N[row]) for row in rows], (0.025, 0.975))
    return {"tau": kendall_tau(x_N, y_N), "low": float(low), "high": float(high)}


def draw(workload: Workload, count: int, share: float | None, seed: int) -> list[Architecture]:
    """Return different networks, evenly over a range of MACs or all just under one share of the largest's."""
    generator, space = np.random.default_rng(seed), workload.space
    shrinker = Shrinker(space, workload.macs)
    shares = np.full(count, share) if share else np.linspace(*SHARES, count)
    networks: dict[Architecture, None] = {}
    for budget in shares * workload.macs(space.largest()):
        for _ in range(100):
            network = shrinker.shrink(space.largest(), list(shrinker.layers), float(budget), generator)
            if network is not None and network not in networks:
                networks[network] = None
                break
        else:
            raise ValueError(f"`share` must leave networks to draw, found {len(networks)} of {count}. Raise it.")
    return list(networks)


def compare(
    name: str, workload: Workload, supernet: Supernet, networks: list[Architecture], standalone: list[float]
) -> dict[str, object]:
    """Print and return tau of a supernet's accuracy for every batch-norm policy."""
    figures: dict[str, object] = {}
    for policy in NORM_POLICIES:
        evaluate = CandidateEvaluator(supernet, workload.data, CandidateConfig(policy=policy))
        results = [evaluate(network) for network in networks]
        accuracies = [result.metrics.get("accuracy", 0.0) for result in results]
        tau = with_interval(accuracies, standalone)
        low, high = min(accuracies), max(accuracies)
        print(f"{name}, {policy:12}: {show(tau)}; supernet accuracy {low:.1%}..{high:.1%}", flush=True)
        figures[policy] = {**tau, "accuracies": accuracies}
    return figures


def show(tau: dict[str, float]) -> str:
    """Return tau and its interval."""
    return f"tau {tau['tau']:+.2f} (95 %: {tau['low']:+.2f}..{tau['high']:+.2f})"


def run(workload: Workload, arguments: argparse.Namespace) -> dict[str, object]:
    """Train supernets and networks, and compare."""
    networks = draw(workload, arguments.networks, arguments.share, arguments.seed)
    kinds = ["partitioned", "masked"] if arguments.masked else ["partitioned"]
    supernets = {}
    for kind in kinds:
        supernets[kind], seconds = workload.train_supernet(arguments.seed, is_masked=kind == "masked")
        print(f"{kind} supernet: trained in {seconds:.0f} s", flush=True)
    standalone = [workload.train_network(network, arguments.seed)[0] for network in networks]
    macs = [workload.macs(network) for network in networks]
    figures = spread(standalone)
    print(
        f"{len(networks)} networks of {min(macs):,.0f}..{max(macs):,.0f} MACs from scratch: test accuracy "
        f"{figures['mean']:.1%} +- {figures['sd']:.1%} ({min(standalone):.1%}..{max(standalone):.1%})"
    )
    baseline = with_interval(macs, standalone)
    print(f"baseline, MACs            : {show(baseline)}")
    taus = {kind: compare(kind, workload, supernet, networks, standalone) for kind, supernet in supernets.items()}
    return {"macs": macs, "standalone": standalone, "baseline": baseline, **taus, "setting": workload.describe()}


def main() -> None:
    parser = Parser(__doc__)
    parser.add_workload(supernet_epochs=32, network_epochs=8)
    parser.add_argument("--networks", type=at_least(3), default=20, help="sub-networks to train from scratch")
    parser.add_argument("--share", type=float, help="draw all networks at this share of the largest's MACs")
    parser.add_argument("--masked", action="store_true", help="compare masked with partitioned ordered dropout too")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of networks, weights and order of the images")
    arguments = parser.parse_args()
    if arguments.share is not None and not 0 < arguments.share < 1:
        parser.error(f"--share must lie between 0 and 1, exclusive, got {arguments.share}. 0.3 is 30 %.")
    workload = Workload.of(parser, arguments)
    try:
        write_json(arguments.json, run(workload, arguments))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
