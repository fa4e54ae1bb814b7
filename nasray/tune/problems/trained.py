"""Networks that are each trained from scratch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.carbon.fu2021 import CarbonFactors
from nasray.data import ImageData
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.hardware.device import DeviceFingerprint
from nasray.hardware.inference_energy import InferenceEnergy, measure_inference_energy
from nasray.hardware.timing import torch_threads
from nasray.models.build import NetworkSpace, build_network
from nasray.objectives import Objective
from nasray.spaces.elastic_space import ElasticSpace
from nasray.strategies.candidate_search import CandidateSearch
from nasray.strategies.strategy import Trial
from nasray.training.config import TrainingConfig
from nasray.training.network_evaluation import METRICS, NetworkEvaluationConfig, NetworkEvaluator
from nasray.tune.candidate_result import candidate_architecture
from nasray.tune.candidate_search_run import run_search
from nasray.tune.energy.calibration import Calibration, few_images
from nasray.tune.energy.hardware_callback import HardwareCostCallback
from nasray.tune.energy.lifetime_callback import LIFETIME, LifetimeCarbonCallback
from nasray.tune.energy.settings import CHARGED, EnergySettings
from nasray.tune.measured_again import Remeasure
from nasray.tune.problems.problem import ACCURACY, Place, Problem, Work
from nasray.tune.progress import Bar
from nasray.tune.session import ray_session
from nasray.tune.workers import Workers

_TRIAL_BYTES = 10_000
"""What a trial leaves on disk: its evaluation and its part of the search's state; Ray's logs of ended ones go."""


class TrainedProblem(Problem):
    """Networks that are each trained from scratch, one Tune trial for each.

    Args:
        space: Cells or chains for the data's images.
        data: Data set.
        training: Recipe of each network.
        seed: Of weights and batches.
        objectives: What a search optimises unless it says otherwise.
        num_evaluations: How many networks a search trains unless it says otherwise.
        costs: More metrics by name: functions of a trained network.
        has_lifetime: Whether a search knows how many inferences to expect and what power they draw.
    """

    def __init__(
        self,
        space: NetworkSpace,
        data: ImageData,
        training: TrainingConfig,
        *,
        seed: int,
        objectives: tuple[Objective, ...] = (ACCURACY, Objective(name="macs", unit="MACs")),
        num_evaluations: int = 40,
        costs: Mapping[str, Callable[[nn.Module], float]] | None = None,
        has_lifetime: bool = False,
    ) -> None:
        self.space, self._networks, self._data = space, space, data
        self._config = NetworkEvaluationConfig(training=training, seed=seed)
        self.objectives, self.num_evaluations = objectives, num_evaluations
        self._costs = dict(costs or {})
        self.metrics = (*METRICS, *self._costs, "memory_bytes", *CHARGED, *((LIFETIME,) if has_lifetime else ()))

    def describe(self) -> list[str]:
        """Return the data and the recipe."""
        data, recipe = self._data, self._config.training
        return [
            f"Data: {data.name}, {len(data.train):,} images to train on, {len(data.holdout):,} to compare on.",
            f"Candidates: {self.space.name}, each trained for {recipe.epochs} epochs at batch {recipe.batch_size}.",
        ]

    def configuration(self) -> dict[str, Any]:
        """Return the recipe."""
        return {"network": self.space.name, "layout": _layout(self._networks), "evaluation": asdict(self._config)}

    def data(self) -> dict[str, Any]:
        """Return the description of the images."""
        return self._data.describe()

    def calibrate(self, calibration: Calibration) -> list[Work]:
        """Train random networks on few images."""
        recipe = self._config.training
        few = few_images(self._data)
        short = replace(self._config, training=replace(recipe, epochs=1))
        evaluate = NetworkEvaluator(self._networks, few, short, calibration.place.device)
        times: list[tuple[float, float]] = []

        def train(architecture: Architecture) -> None:
            evaluation = evaluate(architecture)
            if evaluation.status == "ok":
                training_s = evaluation.metrics["training_time_s"]
                times.append((training_s, evaluation.seconds - training_s))

        calibration.seconds_each(train, self._random())
        if not times:
            raise ValueError("None of the random networks of the calibration could be trained. Check data and recipe.")
        training_s, rest_s = np.mean(times, axis=0)
        epochs = recipe.epochs * len(self._data.train) / len(few.train)
        seconds_each = float(training_s * epochs + rest_s)
        return [Work(stage="search", seconds_each=seconds_each, bytes_each=_TRIAL_BYTES)]

    def search(self, strategy: CandidateSearch, place: Place, formulation: Formulation | None = None) -> ParetoArchive:
        """Train candidates on as many workers as there are; nobody waits for anybody."""
        with (
            ray_session(place.cluster),
            place.energy.account(place.run.path) as account,
            place.progress.shown(),
        ):
            workers, done = Workers.available(place.num_workers), len(place.run.evaluations())
            bar = place.progress.bar("search", strategy.num_evaluations, done=done)
            return run_search(
                strategy,
                partial(_on_a_worker, self._evaluator(workers.device)),
                workers=workers,
                run=place.run,
                formulation=formulation,
                timeout_s=place.timeout_s,
                max_failures=place.max_failures,
                account=account,
                callbacks=[self._hardware_costs(), *self._lifetime(place.energy)],
                on_evaluation=CandidateCounter(bar, done),
                progress=place.progress,
                storage=place.cluster.storage,
            )

    def trained(self, architecture: Architecture) -> nn.Module:
        """Return a network as it was trained in the search, trained once more with the same seed."""
        return self._evaluator("cuda" if torch.cuda.is_available() else "cpu")().trained(architecture)

    def remeasure(self, formulation: Formulation) -> Remeasure | None:
        """Return how inference is timed when no other candidate is being trained, as there was in the search."""
        if "inference_time_s" not in formulation.metrics:
            return None
        device = "cuda" if torch.cuda.is_available() else "cpu"
        again = NetworkEvaluator(self._networks, self._data, self._config, device)
        where = f"{DeviceFingerprint.of(device, threads=1).describe()}, without other trials"
        return Remeasure(metric="inference_time_s", unit="s", device=where, measure=_on_one_thread(again))

    def inference_energy(self, architecture: Architecture) -> InferenceEnergy:
        """Measure the energy of a network's inference at the batch size of its timing, half a minute of work."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        data = self._data
        shape = (self._config.timing_batch_size, data.channels, data.resolution, data.resolution)
        return measure_inference_energy(build_network(self._networks, architecture), shape, device=device)

    def _lifetime(self, energy: EnergySettings) -> list[LifetimeCarbonCallback]:
        if energy.worker_power_w is None:
            return []
        return [
            LifetimeCarbonCallback(
                CarbonFactors(intensity_g_per_kwh=energy.intensity.g_per_kwh, pue=energy.pue),
                num_inferences=energy.inferences,
                power_w=energy.worker_power_w,
                num_images=len(self._data.holdout),
            )
        ]

    def _evaluator(self, device: str) -> Callable[[], NetworkEvaluator]:
        """Return what makes an evaluator on a worker."""
        return partial(NetworkEvaluator, self._networks, self._data, self._config, device, self._costs)

    def _random(self) -> Iterator[Architecture]:
        generator = np.random.default_rng(self._config.seed)
        while True:
            yield self.space.random(generator)

    def _hardware_costs(self) -> HardwareCostCallback:
        """Return the callback without latency: the evaluator times inference itself, at MENNDL's batch size."""
        shape = (1, self._data.channels, self._data.resolution, self._data.resolution)
        return HardwareCostCallback(partial(_network, self._networks), shape, latency_budget_s=0.0)


def _on_a_worker(make: Callable[[], NetworkEvaluator]) -> NetworkEvaluator:
    torch.set_num_threads(1)
    return make()


def _layout(space: NetworkSpace) -> dict[str, Any]:
    """Return what a space was made with, to make it again."""
    if isinstance(space, ElasticSpace):
        return {name: list(options) for name, options in space.choices.items()}
    names = ("num_classes", "in_channels", "resolution", "num_cells", "channels", "merge_isomorphic")
    return {name: getattr(space, name) for name in names if hasattr(space, name)}


def _network(space: NetworkSpace, config: dict[str, Any]) -> nn.Module:
    return build_network(space, candidate_architecture(config))


def _on_one_thread(evaluator: NetworkEvaluator) -> Callable[[Architecture], float]:
    def measure(architecture: Architecture) -> float:
        with torch_threads(1):
            return evaluator.inference_time_s(architecture)

    return measure


class CandidateCounter:
    """Moves a progress bar with every evaluation.

    Args:
        bar: Which.
        done: Evaluations before.
    """

    def __init__(self, bar: Bar, done: int) -> None:
        self._bar, self._done, self._new, self._best = bar, done, 0, 0.0

    def __call__(self, trial: Trial, evaluation: Evaluation) -> None:
        """Count a candidate."""
        self._done, self._new = self._done + 1, self._new + 1
        self._best = max(self._best, evaluation.metrics.get("accuracy", 0.0) if evaluation.status == "ok" else 0.0)
        self._bar.move(self._done, f"{self._new / self._bar.seconds:.2f} candidates/s", f"best {self._best:.1%}")
