"""Networks that are each trained from scratch."""

from __future__ import annotations

import contextlib
import gc
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
from nasray.formulations import Formulation
from nasray.hardware.device import DeviceFingerprint
from nasray.hardware.inference_energy import InferenceEnergy, measure_inference_energy
from nasray.hardware.module_costs import module_costs
from nasray.hardware.timing import torch_threads
from nasray.models.build import NetworkSpace, build_network
from nasray.objectives import Objective
from nasray.records.files import digest
from nasray.spaces.cell import CellSpace
from nasray.spaces.chain import ChainSpace
from nasray.spaces.elastic_space import ElasticSpace
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.multi_scale import MultiScaleSpace
from nasray.strategies.candidate_search import CandidateSearch
from nasray.training.config import TrainingConfig
from nasray.training.network_evaluation import METRICS, NetworkEvaluationConfig, NetworkEvaluator, check_cost_names
from nasray.tune.candidate_result import RESERVED, candidate_architecture
from nasray.tune.candidate_search_run import run_search
from nasray.tune.energy.calibration import Calibration, few_images
from nasray.tune.energy.hardware_callback import HardwareCostCallback
from nasray.tune.energy.lifetime_callback import LIFETIME, LifetimeCarbonCallback
from nasray.tune.energy.settings import CHARGED, EnergySettings
from nasray.tune.measured_again import Remeasure
from nasray.tune.problems.candidate_counter import CandidateCounter
from nasray.tune.problems.problem import ACCURACY, Place, Problem, Work
from nasray.tune.session import ray_session
from nasray.tune.workers import Workers

_TEST = "test_accuracy"

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

    Raises:
        ValueError: If the space is for other images than the data's, or a cost has the name of something else.
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
        _check_images(space, data)
        check_cost_names(costs or (), {*METRICS, "memory_bytes", *CHARGED, LIFETIME, *RESERVED})
        self.space, self._networks, self._data = space, space, data
        self._config = NetworkEvaluationConfig(training=training, seed=seed)
        self.objectives, self.num_evaluations = objectives, num_evaluations
        self._costs = dict(costs or {})
        searched = (name for name in METRICS if name != _TEST)
        self.metrics = (*searched, *self._costs, "memory_bytes", *CHARGED, *((LIFETIME,) if has_lifetime else ()))

    def describe(self) -> list[str]:
        """Return the data and the recipe."""
        data, recipe = self._data, self._config.training
        return [
            f"Data: {data.name}, {len(data.train):,} images to train on, {len(data.holdout):,} to compare on.",
            f"Candidates: {self.space.name}, each trained for {recipe.epochs} epochs at batch {recipe.batch_size}.",
        ]

    def configuration(self) -> dict[str, Any]:
        """Return the space, the recipe and what the costs are called: their code is not looked at."""
        costs = {"costs": sorted(self._costs)} if self._costs else {}
        recipe = asdict(self._config)
        return {"network": self.space.name, "layout": _layout(self._networks), "evaluation": recipe, **costs}

    def data(self) -> dict[str, Any]:
        """Return the description of the images."""
        return self._data.describe()

    def check(self, formulation: Formulation) -> None:
        """Refuse metrics that candidates do not have, and the accuracy on test images.

        Raises:
            ValueError: If there is one.
        """
        if _TEST in formulation.metrics:
            raise ValueError(
                f"An objective or constraint must not be {_TEST}: test images are looked at once, for what was found. "
                "Use accuracy, which is that on the held-out images."
            )
        super().check(formulation)

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
            ray_session(place.cluster, place.progress.say),
            place.energy.account(place.run.path) as account,
            place.progress.shown(),
        ):
            workers, rows = Workers.available(place.num_workers), place.run.evaluations()
            bar = place.progress.bar("search", strategy.num_evaluations, done=len(rows))
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
                on_evaluation=CandidateCounter(bar, rows, formulation or strategy.formulation),
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
    evaluator = make()
    with contextlib.suppress(Exception):  # what fails here fails with the first candidate, which says so
        evaluator.warm_up()
        module_costs(nn.Conv2d(1, 1, 1), (1, 1, 1, 1), device=evaluator.device, latency_budget_s=0.0)
    # PyTorch's own objects stay: looking through them takes a third of a second in the middle of some candidate.
    gc.collect()
    gc.freeze()
    return evaluator


def _check_images(space: NetworkSpace, data: ImageData) -> None:
    """Refuse a space whose networks are for other images."""
    images = _images(space)
    found = {"channels": data.channels, "resolution": data.resolution, "classes": data.num_classes}
    if images is not None and images != found:
        wanted, given = (", ".join(f"{name} {number}" for name, number in each.items()) for each in (found, images))
        raise ValueError(f"`space` must be for images of {data.name} ({wanted}), got {space.name} for {given}.")


def _images(space: NetworkSpace) -> dict[str, int] | None:
    """Return the images that a space's networks are for; None if it takes any."""
    match space:
        case ElasticSpace():
            return None
        case MobileSpace(spec=spec):
            classes = spec.blocks[-1].layers[-1].filters
            return {"channels": spec.in_channels, "resolution": spec.resolution, "classes": classes}
        case MultiScaleSpace(settings=layout) | (CellSpace() | ChainSpace() as layout):
            return {"channels": layout.in_channels, "resolution": layout.resolution, "classes": layout.num_classes}


def _layout(space: NetworkSpace) -> dict[str, Any]:
    """Return what a space was made with; cells and chains are made again from it."""
    match space:
        case ElasticSpace():
            return {name: list(options) for name, options in space.choices.items()}
        case MobileSpace(spec=spec):
            # A digest: the layers of a large network would fill pages of a refusal to resume.
            return {"num_widths": spec.num_widths, "spec": digest(asdict(spec))}
        case MultiScaleSpace():
            return {**asdict(space.settings), "operations": list(space.operations)}
        case CellSpace():
            return _settings(space, "num_cells", "channels", "merge_isomorphic")
        case ChainSpace():
            slots = {"num_feature_slots": len(space.feature_slots), "num_head_slots": len(space.head_slots)}
            return {**_settings(space, "batch_norm", "max_parameters", "max_macs"), **slots}


def _settings(space: CellSpace | ChainSpace, *more: str) -> dict[str, Any]:
    return {name: getattr(space, name) for name in ("num_classes", "in_channels", "resolution", *more)}


def _network(space: NetworkSpace, config: dict[str, Any]) -> nn.Module:
    return build_network(space, candidate_architecture(config))


def _on_one_thread(evaluator: NetworkEvaluator) -> Callable[[Architecture], float]:
    def measure(architecture: Architecture) -> float:
        with torch_threads(1):
            return evaluator.inference_time_s(architecture)

    return measure
