"""Actors that evaluate sub-networks, each holding the supernet once."""

from __future__ import annotations

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
from nasray.tune.session import Workers


class Evaluator:
    """Runs in an actor: evaluates architectures with one copy of the supernet."""

    def __init__(
        self, network: NetworkSpec, weights: Weights, data: ImageData, config: CandidateConfig, device: str, cpus: float
    ) -> None:
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
    """

    def __init__(
        self,
        network: NetworkSpec,
        weights: ray.ObjectRef[Weights],
        data: ray.ObjectRef[ImageData],
        config: CandidateConfig,
        workers: Workers,
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
            actor.remote(network, weights, data, config, workers.device, workers.cpus) for _ in range(workers.count)
        ]

    def wait_until_ready(self) -> None:
        """Block until every evaluator holds the supernet."""
        ray.get([evaluator.ready.remote() for evaluator in self.evaluators])

    def evaluate(
        self, architectures: Sequence[Architecture], on_done: Callable[[int], None] | None = None
    ) -> list[Evaluation]:
        """Return one evaluation for each architecture, in their order.

        Chunks are handed out as evaluators become free: about four for each, so that a slow one holds up little
        and the cost of a call is shared.

        Args:
            architectures: What to evaluate.
            on_done: Called with the number of candidates that just came back.
        """
        size = max(1, -(-len(architectures) // (4 * len(self.evaluators))))
        chunks = [architectures[start : start + size] for start in range(0, len(architectures), size)]
        results: list[list[Evaluation]] = [[] for _ in chunks]
        waiting = list(enumerate(chunks))
        running: dict[Any, tuple[int, Any]] = {}
        idle = list(self.evaluators)
        while waiting or running:
            while waiting and idle:
                index, chunk = waiting.pop(0)
                evaluator = idle.pop(0)
                running[evaluator.evaluate.remote(chunk)] = (index, evaluator)
            done, _ = ray.wait(list(running))
            index, evaluator = running.pop(done[0])
            results[index] = ray.get(done[0])
            idle.append(evaluator)
            if on_done:
                on_done(len(results[index]))
        return [evaluation for chunk in results for evaluation in chunk]

    def close(self) -> None:
        """End the evaluators."""
        for evaluator in self.evaluators:
            ray.kill(evaluator)
