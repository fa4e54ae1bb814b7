"""Networks of an elastic space that share one set of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from torch import nn

from nasray.archive import ParetoArchive
from nasray.data import ImageData
from nasray.formulations import Formulation
from nasray.models.shared_weights import SharedWeights
from nasray.spaces.elastic_space import ElasticSpace
from nasray.strategies.candidate_search import CandidateSearch
from nasray.training.config import TrainingConfig
from nasray.training.network_evaluation import NetworkEvaluator
from nasray.training.shared import SharedEvaluator, SharedJob
from nasray.tune.checkpoints import load_weights
from nasray.tune.energy.calibration import Calibration
from nasray.tune.problems.problem import Place, Work
from nasray.tune.problems.trained import TrainedProblem
from nasray.tune.session import ray_session
from nasray.tune.stages import Stages
from nasray.tune.workers import Workers

_STAGE = "supernet"


class SharedProblem(TrainedProblem):
    """Networks of an elastic space; their shared weights are trained first, then each is judged by its part of them.

    Args:
        space: Whose networks.
        data: Data set.
        training: Recipe of the shared weights, and of a network that is trained further from them.
        seed: Of weights and batches.
        costs: More metrics by name: functions of a network.

    Raises:
        ValueError: If the networks cannot share weights, or a cost has the name of something else.
    """

    def __init__(
        self,
        space: ElasticSpace,
        data: ImageData,
        training: TrainingConfig,
        *,
        seed: int,
        costs: Mapping[str, Callable[[nn.Module], float]] | None = None,
    ) -> None:
        super().__init__(space, data, training, seed=seed, costs=costs)
        SharedWeights(space)
        self._job = SharedJob(space=space, training=training, seed=seed)
        self._images, self._folder = data, Path()

    def describe(self) -> list[str]:
        """Return the data and the recipe."""
        recipe, data = self._job.training, super().describe()[0]
        return [data, f"Shared weights: {self.space.name}, {recipe.epochs} epochs at batch {recipe.batch_size}."]

    def configuration(self) -> dict[str, Any]:
        """Return the recipe."""
        return super().configuration() | {"shares_weights": True, "num_networks": self._job.num_networks}

    def calibrate(self, calibration: Calibration) -> list[Work]:
        """Train the shared weights on few images, and judge random networks."""
        training_s = calibration.training_s(self._job, self._images)
        weights = {name: value.numpy() for name, value in SharedWeights(self._job.space).state_dict().items()}
        evaluator = self._with(weights, calibration.place.device)()
        each_s = calibration.seconds_each(evaluator, self._random())
        size = sum(int(np.prod(value.shape)) for value in weights.values())
        return [
            Work(stage=_STAGE, seconds=training_s, is_shared=False, parameters=size),
            Work(stage="search", seconds_each=each_s),
        ]

    def search(self, strategy: CandidateSearch, place: Place, formulation: Formulation | None = None) -> ParetoArchive:
        """Train the shared weights, or take those of an earlier part of the run, and judge candidates with them."""
        with ray_session(place.cluster, place.progress.say):
            with place.energy.account(place.run.path) as account:
                stages = Stages(place.run, place.progress, account, storage=place.cluster.storage)
                trainer = Workers.available(place.num_workers).for_training(1, None)
                (self._folder,) = stages.train(_STAGE, {_STAGE: self._job}, ray.put(self._images), trainer).values()
            return super().search(strategy, place, formulation)

    def _evaluator(self, device: str) -> Callable[[], NetworkEvaluator]:
        return self._with(load_weights(self._folder), device)

    def _with(self, weights: Mapping[str, Any], device: str) -> Callable[[], NetworkEvaluator]:
        return partial(
            SharedEvaluator, self._job.space, self._images, self._config, device, self._costs, weights=weights
        )
