"""Actors that evaluate sub-networks, each holding the supernet once."""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError, RayError
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from nasray.architecture import Architecture
from nasray.data import ImageData
from nasray.evaluation import Evaluation
from nasray.failures import TIME_OUT, Failure
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.network_spec import NetworkSpec
from nasray.training.candidates import CandidateConfig, CandidateEvaluator
from nasray.training.jobs import Place, Weights, load_supernet
from nasray.tune.candidate_trial import Evaluate, evaluate_candidate
from nasray.tune.crash_watch import crash_failure
from nasray.tune.deadline import GRACE_S, check_timeout, took_longer
from nasray.tune.energy.leases import open_lease_here
from nasray.tune.evaluation_work import Chunk, Work
from nasray.tune.failure_limit import FailureLimit
from nasray.tune.workers import Workers

_LOOK_S = 2.0
_TRIES = 2


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
        timeout_s: float | None,
        grace_s: float,
    ) -> None:
        open_lease_here(owner, "search")
        torch.set_num_threads(max(1, int(cpus)))
        supernet = load_supernet(MobileSpace(network), weights)
        Place(device=device).put(supernet)
        self._evaluate: Evaluate = CandidateEvaluator(supernet, data, config)
        self._timeout_s, self._grace_s = timeout_s, grace_s

    def ready(self) -> str:
        """Answer once the supernet is loaded, with Ray's id of the node."""
        return str(ray.get_runtime_context().get_node_id())

    def evaluate(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        """Return one evaluation for each architecture; tracebacks of bugs are in this worker's log."""
        return [
            evaluate_candidate(
                self._evaluate,
                architecture,
                self._timeout_s,
                grace_s=self._grace_s,
                on_bug=traceback.print_exception,
            )
            for architecture in architectures
        ]


class EvaluationPool:
    """A set of evaluators inside the placement group of the trial that makes it.

    A killed evaluator is started again by Ray, and the candidates of its chunk are done again, each by itself, so that
    one that kills its evaluator is found: it gets a second try and then fails; one that took too long gets none.
    Weights and data come from the object store; each evaluator copies the weights, since views of the store are shared
    and writable.

    Args:
        network: Initial network.
        weights: Reference to the supernet's weights, as numpy arrays.
        data: Reference to the data that sub-networks are compared on.
        config: How they are compared.
        workers: How many evaluators, and the resources of each.
        owner: Trial that their energy is charged to.
        timeout_s: How long a candidate may take, in seconds; None for no limit.
        grace_s: How much longer native code may take before its evaluator is ended.
        limit: Told of every evaluation; once it is reached, no more are made.
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
        timeout_s: float | None = None,
        grace_s: float = GRACE_S,
        limit: FailureLimit | None = None,
    ) -> None:
        check_timeout(timeout_s)
        self._timeout_s, self._grace_s, self._limit = timeout_s, grace_s, limit
        self._starting: dict[Any, Any] = {}
        self._node_of: dict[Any, str] = {}
        # A restarted evaluator reads its arguments again: they must outlive its first start.
        self._arguments = (weights, data)
        options: dict[str, Any] = {
            "num_cpus": workers.cpus,
            "num_gpus": workers.gpus,
            "max_restarts": -1,
            "max_task_retries": -1,
        }
        if group := get_current_placement_group():
            # Without a bundle index: each goes where there is room, which the trial's own bundle has none of.
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group)
        actor = ray.remote(Evaluator).options(**options)
        self.evaluators: list[Any] = [
            actor.remote(network, weights, data, config, workers.device, workers.cpus, owner, timeout_s, grace_s)
            for _ in range(workers.count)
        ]

    def wait_until_ready(self) -> None:
        """Block until every evaluator holds the supernet."""
        nodes = ray.get([evaluator.ready.remote() for evaluator in self.evaluators])
        self._node_of = dict(zip(self.evaluators, nodes, strict=True))

    def evaluate(
        self, architectures: Sequence[Architecture], on_done: Callable[[int], None] | None = None
    ) -> list[Evaluation | None]:
        """Return one evaluation for each architecture, in their order; None for those left when the limit was reached.

        Chunks are handed out as evaluators become free, and get smaller towards the end, so that all finish together;
        but a chunk takes at least 50 ms, so that the cost of a call stays small beside it.

        Args:
            architectures: What to evaluate.
            on_done: Called with the number of candidates that just came back.
        """
        work = Work(architectures)
        running: dict[Any, Chunk] = {}
        idle = [evaluator for evaluator in self.evaluators if evaluator not in self._starting.values()]
        while running or (work.is_left and not self._is_stopped):
            while idle and not self._is_stopped and (indices := work.take(len(self.evaluators))):
                evaluator = idle.pop(0)
                # Not Ray's retries, which know no end: a candidate that kills its evaluator would do so for ever.
                call = evaluator.evaluate.options(max_task_retries=0)
                reference = call.remote([architectures[index] for index in indices])
                running[reference] = Chunk(indices, evaluator, time.monotonic())
            done, _ = ray.wait([*running, *self._starting], timeout=self._patience_s(running.values()))
            if not done:
                self._kill_overdue(running.values())
                self._leave_lost_nodes(running, work)
                continue
            if done[0] in self._starting:
                idle.append(self._started(done[0]))
                continue
            chunk = running.pop(done[0])
            self._take(done[0], chunk, work, on_done)
            if chunk.is_lost:
                self._await_start(chunk.evaluator)
            else:
                idle.append(chunk.evaluator)
        return work.results

    def _await_start(self, evaluator: Any) -> None:
        """Have an evaluator answer once Ray has started it again; nobody waits for it, as its node may be gone."""
        self._starting[evaluator.ready.remote()] = evaluator

    def _started(self, answer: Any) -> Any:
        """Return the evaluator that answers again."""
        evaluator = self._starting.pop(answer)
        with contextlib.suppress(RayError):  # lost once more: its next chunk shows
            self._node_of[evaluator] = ray.get(answer)
        return evaluator

    def _leave_lost_nodes(self, running: dict[Any, Chunk], work: Work) -> None:
        """Take back what evaluators on lost nodes have in hand: Ray keeps calls until there is room to start them."""
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        for reference, chunk in list(running.items()):
            if self._node_of.get(chunk.evaluator, "") not in alive | {""}:
                del running[reference]
                work.singly += chunk.indices
                self._await_start(chunk.evaluator)

    @property
    def _is_stopped(self) -> bool:
        return self._limit is not None and self._limit.is_reached

    def _take(self, answer: Any, chunk: Chunk, work: Work, on_done: Callable[[int], None] | None) -> None:
        """Take what came of a chunk."""
        try:
            evaluations: list[Evaluation] = ray.get(answer)
        except RayError as error:
            chunk.is_lost = isinstance(error, RayActorError)
            if len(chunk.indices) > 1:
                work.singly += chunk.indices
                return
            failure = self._failure(error, time.monotonic() - chunk.started_s)
            work.deaths[chunk.indices[0]] += 1
            if not failure.is_final and work.deaths[chunk.indices[0]] < _TRIES:
                work.singly += chunk.indices
                return
            evaluations = [failure.evaluation(time.monotonic() - chunk.started_s)]
        work.put(chunk.indices, evaluations)
        for index, evaluation in zip(chunk.indices, evaluations, strict=True):
            if self._limit is not None:
                self._limit.note(work.architectures[index].arch_id, evaluation)
        if on_done:
            on_done(len(evaluations))

    def _failure(self, error: RayError, seconds: float) -> Failure:
        if self._timeout_s is not None and isinstance(error, RayActorError) and seconds >= self._timeout_s:
            return Failure(reason=f"{TIME_OUT}: {took_longer(self._timeout_s)}", is_expected=True)
        return crash_failure(error)

    def _patience_s(self, chunks: Iterable[Chunk]) -> float:
        """Return how long to wait until a chunk is overdue, or it is time to look after the nodes, in seconds."""
        first_s = min((self._overdue_s(chunk) for chunk in chunks if not chunk.is_killed), default=math.inf)
        return min(max(0.0, first_s - time.monotonic()), _LOOK_S)

    def _overdue_s(self, chunk: Chunk) -> float:
        # The evaluator's own end comes first; this is for one that does not even manage that.
        allowed_s = math.inf if self._timeout_s is None else self._timeout_s * len(chunk.indices)
        return chunk.started_s + allowed_s + 2 * self._grace_s

    def _kill_overdue(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            if self._overdue_s(chunk) <= time.monotonic() and not chunk.is_killed:
                ray.kill(chunk.evaluator, no_restart=False)
                chunk.is_killed = True

    def close(self) -> None:
        """End the evaluators."""
        for evaluator in self.evaluators:
            ray.kill(evaluator)
