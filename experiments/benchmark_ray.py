"""Time evaluating candidates through Ray: what an actor pool adds to the evaluations themselves.

One iteration of J candidates goes through a pool of evaluation actors, as in a search. The overhead of a candidate is
(wall time x actors - seconds that the evaluations took) / J; the baseline is evaluating the same candidates in this
process. Times in ms.
"""

from __future__ import annotations

import time

import numpy as np
import ray
import torch
from _benchmark import Parser, at_least, spread, write_json

from nasray.data import load_image_data
from nasray.spaces.mobile_networks import mobile_space
from nasray.training.candidates import CandidateConfig, CandidateEvaluator, comparison_data
from nasray.training.config import TrainingConfig
from nasray.training.jobs import Place, SupernetJob, load_supernet
from nasray.tune.evaluation_pool import EvaluationPool
from nasray.tune.session import ClusterConfig, ray_session
from nasray.tune.workers import Workers

GOAL_MS = 3.0


def main() -> None:
    """Time J candidates through a pool of actors, several times."""
    parser = Parser(__doc__)
    parser.add_argument("--samples", type=at_least(1), default=200, help="J, candidates of an iteration")
    parser.add_argument("--actors", type=at_least(1), default=2, help="evaluation actors, one CPU each")
    parser.add_argument("--turns", type=at_least(1), default=5, help="iterations to time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, config = load_image_data(None), CandidateConfig()
    space = mobile_space("mobile-8", num_classes=10, in_channels=1)
    job = SupernetJob(network=space.spec, training=TrainingConfig(epochs=1, batch_size=128))
    weights, images = job.start(data, Place()).weights(), comparison_data(data, config)
    generator = np.random.default_rng(0)
    local = CandidateEvaluator(load_supernet(space, weights), images, config)
    overheads, alone = [], []
    with ray_session(ClusterConfig()):
        workers = Workers(count=arguments.actors, cpus=1, gpus=0)
        pool = EvaluationPool(space.spec, ray.put(weights), ray.put(images), config, workers, owner="benchmark")
        pool.wait_until_ready()
        for turn in range(arguments.turns + 1):
            candidates = [space.random(generator) for _ in range(arguments.samples)]
            start = time.perf_counter()
            evaluations = pool.evaluate(candidates)
            wall = time.perf_counter() - start
            busy = sum(evaluation.seconds for evaluation in evaluations if evaluation)
            if turn:  # the first one warms up
                overheads.append(1e3 * (wall * arguments.actors - busy) / len(candidates))
                alone.append(1e3 * float(np.mean([local(candidate).seconds for candidate in candidates[:40]])))
        pool.close()
    overhead, baseline = spread(np.array(overheads)), spread(np.array(alone))
    verdict = "met" if overhead["median"] <= GOAL_MS else "missed"
    print(
        f"{arguments.samples} candidates through {arguments.actors} actors, {arguments.turns} turns (digits, mobile-8)"
    )
    print(f"  evaluation in this process (baseline): {baseline['median']:.2f} ms a candidate")
    print(
        f"  overhead of the pool: {overhead['median']:.2f} ms a candidate, quartiles "
        f"{np.quantile(overheads, 0.25):.2f} to {np.quantile(overheads, 0.75):.2f}; goal {GOAL_MS} ms: {verdict}"
    )
    write_json(arguments.json, {"overhead_ms": overhead, "baseline_ms": baseline, "goal_ms": GOAL_MS})


if __name__ == "__main__":
    main()
