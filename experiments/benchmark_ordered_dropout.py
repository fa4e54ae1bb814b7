"""Compare the time to rate a search's samples by one supernet and by training each sample for itself.

Supernet: train it once, then evaluate every sample with its weights; measured fully. One by one (NetAdaptV1): train
each sample for a few epochs from inherited weights, then evaluate it; measured on a random part of the samples and
scaled to all of them. Both rate the same samples, those of one coordinate descent. Times in seconds; the discovered
network's own training is left out. Source: Yang et al. 2021, Sec. 4.1.4 and Table 3 (10.4 times).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from _benchmark import Parser, Workload, at_least, spread, write_json

from nasray.architecture import Architecture
from nasray.data import Batches
from nasray.models.supernet import Supernet
from nasray.strategies.coordinate_descent import CoordinateDescent, CoordinateDescentConfig
from nasray.strategies.shrinking import Shrinker
from nasray.training.candidates import CandidateConfig, CandidateEvaluator
from nasray.training.evaluate import evaluate
from nasray.training.jobs import NetworkJob, to_numpy


def descend(
    workload: Workload, supernet: Supernet, arguments: argparse.Namespace
) -> tuple[list[Architecture], list[float]]:
    """Run coordinate descent over the supernet; returns its samples and the seconds that each evaluation took."""
    space = workload.space
    config = CoordinateDescentConfig(
        target=arguments.target * workload.macs(space.largest()),
        mode=arguments.mode,
        num_samples=len(Shrinker(space, workload.macs).layers),
        num_layers=4,
        first_reduction=arguments.reduction,
    )
    descent = CoordinateDescent(space, workload.macs, config, np.random.default_rng(arguments.seed))
    evaluator = CandidateEvaluator(supernet, workload.data, CandidateConfig())
    samples, seconds = [], []
    while (trial := descent.ask()) is not None:
        result = evaluator(trial.architecture)
        descent.tell(trial.trial_id, result)
        samples.append(trial.architecture)
        seconds.append(result.seconds)
    return samples, seconds


def train_briefly(
    workload: Workload, supernet: Supernet, sample: Architecture, arguments: argparse.Namespace
) -> tuple[float, float]:
    """Train one sample from the supernet's weights; returns the seconds that it took and its holdout accuracy."""
    job = NetworkJob(
        network=workload.space.spec,
        training=workload.recipe(arguments.epochs_per_sample),
        seed=arguments.seed,
        architecture=sample,
        supernet_weights=to_numpy(supernet),
        inherits=True,
    )
    start = time.perf_counter()
    running = job.start(workload.data, workload.place)
    while not running.is_finished:
        running.run_epoch()
    data = workload.data
    holdout = Batches(data.holdout, data, batch_size=512, device=workload.place.device, channels_last=True)
    accuracy = evaluate(running.trainer.evaluated.eval(), holdout)["accuracy"]
    return time.perf_counter() - start, accuracy


def run(workload: Workload, arguments: argparse.Namespace) -> dict[str, object]:
    """Measure both ways and print their ratio."""
    supernet, training = workload.train_supernet(arguments.seed)
    samples, evaluations = descend(workload, supernet, arguments)
    once = training + sum(evaluations)
    print(
        f"supernet: {training:.0f} s of training + {sum(evaluations):.0f} s for {len(samples)} samples "
        f"({1e3 * sum(evaluations) / len(samples):.0f} ms each) = {once:.0f} s",
        flush=True,
    )
    count = min(arguments.measured, len(samples))
    chosen = np.random.default_rng(arguments.seed).choice(len(samples), count, replace=False)
    trained = [train_briefly(workload, supernet, samples[index], arguments) for index in chosen]
    times = spread([seconds for seconds, _ in trained])
    each = len(samples) * times["mean"]
    error = len(samples) * times["sd"] / np.sqrt(count)
    print(
        f"one by one: {times['mean']:.1f} +- {times['sd']:.1f} s for each of {count} samples trained "
        f"{arguments.epochs_per_sample} epochs; {each:.0f} +- {error:.0f} s (standard error) if all {len(samples)} were"
    )
    print(f"ratio: one by one takes {each / once:.1f} +- {error / once:.1f} times the supernet's time (paper: 10.4)")
    return {
        "supernet_training_s": training,
        "evaluation_s": evaluations,
        "num_samples": len(samples),
        "sample_training_s": [seconds for seconds, _ in trained],
        "sample_accuracy": [accuracy for _, accuracy in trained],
        "ratio": each / once,
        "ratio_standard_error": error / once,
        "setting": workload.describe(),
    }


def main() -> None:
    parser = Parser(__doc__)
    parser.add_workload(supernet_epochs=32, network_epochs=8)
    parser.add_argument("--epochs-per-sample", type=at_least(1), default=4, help="epochs of each sample's own training")
    parser.add_argument("--measured", type=at_least(2), default=12, help="samples trained by themselves")
    parser.add_argument(
        "--mode", choices=("single-layer", "multi-layer"), default="single-layer", help="of the descent"
    )
    parser.add_argument("--target", type=float, default=0.3, help="share of the largest's MACs at which it ends")
    parser.add_argument("--reduction", type=float, default=0.05, help="its first reduction, share of the MACs")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of weights, samples and order of the images")
    arguments = parser.parse_args()
    if not (0 < arguments.target < 1 and 0 < arguments.reduction < 1):
        parser.error("--target and --reduction must lie between 0 and 1, exclusive. 0.3 is 30 %.")
    workload = Workload.of(parser, arguments)
    try:
        write_json(arguments.json, run(workload, arguments))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
