"""Compare multi-layer and single-layer coordinate descent with random search over one trained supernet per seed.

Every discovered network is trained from scratch with one recipe. `unsearched` is one random network of the same MACs,
to show what choosing is worth at all. Source: Yang et al. 2021, Sec. 4.1.4 and appendix D.2.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from _benchmark import Parser, Workload, at_least, spread, write_json

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.strategies.coordinate_descent import CoordinateDescent, CoordinateDescentConfig
from nasray.strategies.random_at_cost import RandomAtCost
from nasray.strategies.shrinking import Shrinker
from nasray.strategies.strategy import Strategy
from nasray.training.candidates import CandidateConfig, CandidateEvaluator

METHODS = ("multi-layer", "single-layer", "random", "unsearched")


class CachedEvaluator:
    """Evaluates each architecture once; shared by all methods of one supernet."""

    def __init__(self, evaluator: CandidateEvaluator) -> None:
        self._evaluator = evaluator
        self.results: dict[str, Evaluation] = {}

    def __call__(self, architecture: Architecture) -> Evaluation:
        """Return the evaluation, from the cache where it is known."""
        if architecture.arch_id not in self.results:
            self.results[architecture.arch_id] = self._evaluator(architecture)
        return self.results[architecture.arch_id]


def search(strategy: Strategy, evaluate: CachedEvaluator, rank_by: str = "accuracy") -> int:
    """Run a strategy to its end; returns how many samples it asked for.

    Ranked by loss, strategies are told the negative loss in the accuracy's place.
    """
    num_samples = 0
    while (trial := strategy.ask()) is not None:
        evaluation = evaluate(trial.architecture)
        if rank_by == "loss" and evaluation.status == "ok":
            evaluation = replace(evaluation, metrics={"accuracy": -evaluation.metrics["loss"]})
        strategy.tell(trial.trial_id, evaluation)
        num_samples += 1
    return num_samples


def discover(
    workload: Workload, evaluate: CachedEvaluator, share: float, seed: int, arguments: argparse.Namespace
) -> dict[str, tuple[Architecture, int]]:
    """Return each method's network at a share of the MACs, and how many samples it took."""
    space, target = workload.space, share * workload.macs(workload.space.largest())
    found: dict[str, tuple[Architecture, int]] = {}
    for mode, reduction in (("multi-layer", arguments.reduction), ("single-layer", arguments.single_reduction)):
        config = CoordinateDescentConfig(
            target=target,
            mode=mode,  # type: ignore[arg-type]
            num_samples=arguments.samples or len(Shrinker(space, workload.macs).layers),
            num_layers=arguments.layers,
            first_reduction=reduction,
        )
        descent = CoordinateDescent(space, workload.macs, config, np.random.default_rng(seed))
        num_samples = search(descent, evaluate, arguments.rank_by)
        found[mode] = (descent.trajectory[-1].architecture, num_samples)
    for name, count in (("random", found["multi-layer"][1]), ("unsearched", 1)):
        generator = np.random.default_rng([seed, METHODS.index(name)])
        baseline = RandomAtCost(space, workload.macs, target=target, num_samples=count, generator=generator)
        search(baseline, evaluate, arguments.rank_by)
        found[name] = (baseline.best(), count)
    return found


def run(workload: Workload, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Return one row per seed, target and method; written after each seed."""
    rows: list[dict[str, object]] = []
    for seed in range(arguments.seeds):
        supernet, seconds = workload.train_supernet(seed)
        evaluate = CachedEvaluator(
            CandidateEvaluator(supernet, workload.data, CandidateConfig(policy=arguments.policy))
        )
        largest = evaluate(workload.space.largest()).metrics["accuracy"]
        print(f"seed {seed}: supernet trained in {seconds:.0f} s; its largest network {largest:.1%}", flush=True)
        for share in arguments.targets:
            for method, (network, num_samples) in discover(workload, evaluate, share, seed, arguments).items():
                accuracy, _ = workload.train_network(network, seed)
                row = {
                    "seed": seed,
                    "share": share,
                    "method": method,
                    "num_samples": num_samples,
                    "macs": workload.macs(network),
                    "supernet_accuracy": evaluate(network).metrics["accuracy"],
                    "test_accuracy": accuracy,
                    "architecture": network.to_json(),
                }
                rows.append(row)
                print(
                    f"  {share:.0%} {method:12} {num_samples:4} samples, {row['macs']:,.0f} MACs, supernet "
                    f"{row['supernet_accuracy']:.1%}, trained {accuracy:.2%} test",
                    flush=True,
                )
        print(f"  {len(evaluate.results)} unique samples evaluated", flush=True)
        write_json(arguments.json, {"rows": rows})
    return rows


def summarise(rows: list[dict[str, object]]) -> dict[str, object]:
    """Print test accuracy by target and method, and multi-layer's lead over each baseline, paired by seed."""
    accuracy = {(row["seed"], row["share"], row["method"]): float(str(row["test_accuracy"])) for row in rows}
    keys = list(dict.fromkeys((seed, share) for seed, share, _ in accuracy))
    summary: dict[str, object] = {}
    for share in dict.fromkeys(share for _, share in keys):
        for method in METHODS:
            figures = spread([accuracy[seed, s, method] for seed, s in keys if s == share])
            summary[f"{method} at {share:.0%}"] = figures
            print(f"{share:.0%} of the MACs, {method:12}: test accuracy {figures['mean']:.2%} +- {figures['sd']:.2%}")
    for method in METHODS[1:]:
        figures = spread([accuracy[*key, "multi-layer"] - accuracy[*key, method] for key in keys])
        summary[f"lead over {method}"] = figures
        points, deviation = 100 * figures["mean"], 100 * figures["sd"]
        print(f"multi-layer leads {method} by {points:+.2f} +- {deviation:.2f} points (pairs: {len(keys)})")
    return summary


def main() -> None:
    parser = Parser(__doc__)
    parser.add_workload(supernet_epochs=32, network_epochs=8)
    parser.add_argument("--seeds", type=at_least(1), default=3, help="supernets to train")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.6, 0.3], help="shares of the largest's MACs")
    parser.add_argument("--samples", type=at_least(1), help="J, samples per iteration; by default one per layer")
    parser.add_argument("--layers", type=at_least(1), default=4, help="L, layers that a multi-layer sample may shrink")
    parser.add_argument("--reduction", type=float, default=0.08, help="multi-layer's first reduction, share of MACs")
    parser.add_argument("--single-reduction", type=float, default=0.05, help="single-layer's first reduction")
    parser.add_argument("--policy", choices=("running", "batch", "recalibrated"), default="batch", help="batch norm")
    parser.add_argument("--rank-by", choices=("accuracy", "loss"), default="accuracy", help="what compares samples")
    arguments = parser.parse_args()
    if not all(0 < share < 1 for share in (*arguments.targets, arguments.reduction, arguments.single_reduction)):
        parser.error("--targets and reductions must lie between 0 and 1, exclusive. 0.3 is 30 %.")
    workload = Workload.of(parser, arguments)
    try:
        rows = run(workload, arguments)
    except ValueError as error:
        parser.error(str(error))
    write_json(arguments.json, {"rows": rows, "summary": summarise(rows), "setting": workload.describe()})


if __name__ == "__main__":
    main()
