"""Networks that are each trained from scratch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from nasray.hardware.latency import input_shape
from nasray.hardware.timing import torch_threads
from nasray.models.build import NetworkSpace, build_network
from nasray.objectives import Objective
from nasray.search.candidate_search import CandidateSearch
from nasray.search.strategy import Trial
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
from nasray.tune.session import Workers, ray_session


class TrainedProblem(Problem):
    """Networks that are each trained from scratch, one Tune trial for each.

    Args:
        space: Cells or chains for the data's images.
        data: Data set.
        training: Recipe of each network.
        seed: Of weights and batches.
        objectives: What a search optimises unless it says otherwise.
        num_evaluations: How many networks a search trains unless it says otherwise.
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
        has_lifetime: bool = False,
    ) -> None:
        self.space, self._networks, self._data = space, space, data
        self._config = NetworkEvaluationConfig(training=training, seed=seed)
        self.objectives, self.num_evaluations = objectives, num_evaluations
        self.metrics = (*METRICS, "memory_bytes", *CHARGED, *((LIFETIME,) if has_lifetime else ()))

    def describe(self) -> list[str]:
        """Return the data and the recipe."""
        data, recipe = self._data, self._config.training
        return [
            f"Data: {data.name}, {len(data.train):,} images to train on, {len(data.holdout):,} to compare on.",
            f"Candidates: {self.space.name}, each trained for {recipe.epochs} epochs at batch {recipe.batch_size}.",
        ]

    def configuration(self) -> dict[str, Any]:
        """Return the recipe."""
        return {"network": self.space.name, "evaluation": asdict(self._config)}

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
        return [Work(stage="search", seconds_each=float(training_s * epochs + rest_s))]

    def search(self, strategy: CandidateSearch, place: Place, formulation: Formulation | None = None) -> ParetoArchive:
        """Train candidates on as many workers as there are; nobody waits for anybody."""
        with (
            ray_session(place.cluster),
            place.energy.account(place.run.path) as account,
            place.progress.shown(),
        ):
            workers, bar = Workers.available(place.num_workers), place.progress.bar("search", strategy.num_evaluations)
            return run_search(
                strategy,
                partial(_evaluator, self._networks, self._data, self._config, workers.device),
                workers=workers,
                run=place.run,
                formulation=formulation,
                timeout_s=place.timeout_s,
                account=account,
                callbacks=[self._hardware_costs(), *self._lifetime(place.energy)],
                on_evaluation=_Counter(bar, len(place.run.evaluations())),
            )

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
        shape = (self._config.timing_batch_size, *input_shape(self._networks)[1:])
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

    def _random(self) -> Iterator[Architecture]:
        generator = np.random.default_rng(self._config.seed)
        while True:
            yield self.space.random(generator)

    def _hardware_costs(self) -> HardwareCostCallback:
        """Return the callback without latency: the evaluator times inference itself, at MENNDL's batch size."""
        shape = (1, self._data.channels, self._data.resolution, self._data.resolution)
        return HardwareCostCallback(partial(_network, self._networks), shape, latency_budget_s=0.0)


def _evaluator(space: NetworkSpace, data: ImageData, config: NetworkEvaluationConfig, device: str) -> NetworkEvaluator:
    torch.set_num_threads(1)
    return NetworkEvaluator(space, data, config, device)


def _network(space: NetworkSpace, config: dict[str, Any]) -> nn.Module:
    return build_network(space, candidate_architecture(config))


def _on_one_thread(evaluator: NetworkEvaluator) -> Callable[[Architecture], float]:
    def measure(architecture: Architecture) -> float:
        with torch_threads(1):
            return evaluator.inference_time_s(architecture)

    return measure


class _Counter:
    """Moves the progress bar."""

    def __init__(self, bar: Bar, done: int) -> None:
        self._bar, self._done, self._new, self._best = bar, done, 0, 0.0

    def __call__(self, trial: Trial, evaluation: Evaluation) -> None:
        """Count a candidate."""
        self._done, self._new = self._done + 1, self._new + 1
        self._best = max(self._best, evaluation.metrics.get("accuracy", 0.0) if evaluation.status == "ok" else 0.0)
        self._bar.move(self._done, f"{self._new / self._bar.seconds:.2f} candidates/s, best {self._best:.1%}")
