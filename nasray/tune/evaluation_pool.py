"""Actors that evaluate sub-networks, each holding the supernet once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ray
import torch
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from nasray.architecture import Architecture
from nasray.data import ImageData
from nasray.evaluation import Evaluation
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.network_spec import NetworkSpec
from nasray.training.candidates import CandidateConfig, CandidateEvaluator
from nasray.training.jobs import Place, Weights, load_supernet
from nasray.tune.energy.leases import open_lease_here
from nasray.tune.session import Workers

_CHUNK_S = 0.05


class Evaluator:
    """Runs in an actor: evaluates architectures with one copy of the supernet."""

    def __init__(
        self,
        network: NetworkSpec,
        weights: Weights,
        data: ImageData,
        config: CandidateConfig,
        device: str,
        cpus: float,
        owner: str,
    ) -> None:
        open_lease_here(owner, "search")
        torch.set_num_threads(max(1, int(cpus)))
        supernet = load_supernet(MobileSpace(network), weights)
        Place(device=device).put(supernet)
        self._evaluate = CandidateEvaluator(supernet, data, config)

    def ready(self) -> bool:
        """Answer once the supernet is loaded."""
        return True

    def evaluate(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        """Return one evaluation for each architecture."""
        return [self._evaluate(architecture) for architecture in architectures]


class EvaluationPool:
    """A set of evaluators inside the placement group of the trial that makes it.

    A killed evaluator is started again by Ray and its chunk is done again. Weights and data come from the object
    store; each evaluator copies the weights, since views of the store are shared and writable.

    Args:
        network: Initial network.
        weights: Reference to the supernet's weights, as numpy arrays.
        data: Reference to the data that sub-networks are compared on.
        config: How they are compared.
        workers: How many evaluators, and the resources of each.
        owner: Trial that their energy is charged to.
    """

    def __init__(
        self,
        network: NetworkSpec,
        weights: ray.ObjectRef[Weights],
        data: ray.ObjectRef[ImageData],
        config: CandidateConfig,
        workers: Workers,
        *,
        owner: str,
    ) -> None:
        # A restarted evaluator reads its arguments again: they must outlive its first start.
        self._arguments = (weights, data)
        options: dict[str, Any] = {
            "num_cpus": workers.cpus,
            "num_gpus": workers.gpus,
            "max_restarts": -1,
            "max_task_retries": -1,
        }
        if group := get_current_placement_group():
            # Without a bundle index: the trial's own bundle is empty, is dropped, and would shift the others.
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group)
        actor = ray.remote(Evaluator).options(**options)
        self.evaluators: list[Any] = [
            actor.remote(network, weights, data, config, workers.device, workers.cpus, owner)
            for _ in range(workers.count)
        ]

    def wait_until_ready(self) -> None:
        """Block until every evaluator holds the supernet."""
        ray.get([evaluator.ready.remote() for evaluator in self.evaluators])

    def evaluate(
        self, architectures: Sequence[Architecture], on_done: Callable[[int], None] | None = None
    ) -> list[Evaluation]:
        """Return one evaluation for each architecture, in their order.

        Chunks are handed out as evaluators become free, and get smaller towards the end, so that all finish together;
        but a chunk takes at least 50 ms, so that the cost of a call stays small beside it.

        Args:
            architectures: What to evaluate.
            on_done: Called with the number of candidates that just came back.
        """
        results: list[Evaluation | None] = [None] * len(architectures)
        running: dict[Any, tuple[int, Any]] = {}
        idle, start, seconds = list(self.evaluators), 0, [0.0, 0.0]
        while start < len(architectures) or running:
            while start < len(architectures) and idle:
                size = _chunk_size(len(architectures) - start, len(self.evaluators), *seconds)
                chunk, evaluator = architectures[start : start + size], idle.pop(0)
                running[evaluator.evaluate.remote(chunk)] = (start, evaluator)
                start += len(chunk)
            done, _ = ray.wait(list(running))
            first, evaluator = running.pop(done[0])
            evaluations = ray.get(done[0])
            results[first : first + len(evaluations)] = evaluations
            seconds = [seconds[0] + sum(e.seconds for e in evaluations), seconds[1] + len(evaluations)]
            idle.append(evaluator)
            if on_done:
                on_done(len(evaluations))
        return [evaluation for evaluation in results if evaluation is not None]

    def close(self) -> None:
        """End the evaluators."""
        for evaluator in self.evaluators:
            ray.kill(evaluator)


def _chunk_size(left: int, num_evaluators: int, seconds: float, count: float) -> int:
    """Return how many of the candidates that are left the next free evaluator gets."""
    shortest = math.ceil(_CHUNK_S * count / seconds) if seconds else 1
    return max(1, shortest, left // (4 * num_evaluators))
