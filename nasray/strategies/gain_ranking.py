"""Which candidates promise most, as the models of the learned metrics see it.

Array letters: N candidates, L learned metrics, F points of the front, M objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nasray.pareto import front_indices
from nasray.reading import build
from nasray.strategies.candidate_pool import Pool
from nasray.strategies.encoding import Array, Slot
from nasray.strategies.expected_gain import Scene, expected_gain
from nasray.strategies.metric_model import MetricModel
from nasray.strategies.metric_scale import MetricScale, Prediction
from nasray.strategies.split_objectives import SplitObjectives
from nasray.strategies.strategy import State

_NUM_POINTS = 1024
_SPREAD = 0.6  # factor on predicted deviations: below 1 leans to what is known to be good


@dataclass(frozen=True)
class _Evidence:
    """What the models are based on: evaluations, and candidates that are out with what is expected of them."""

    pool: Pool
    values_NL: Array
    scales: list[MetricScale]


class GainRanking:
    """Models of the learned metrics, and the gain in hypervolume that they expect of candidates.

    Args:
        split: What is learned.
        slots: Choices of the space.
        num_features: Features of an architecture.
    """

    def __init__(self, split: SplitObjectives, slots: Sequence[Slot], num_features: int) -> None:
        self._split = split
        self._models = [MetricModel(slots, num_features) for _ in split.learned]
        self._limits: tuple[Array, Array] | None = None

    def learn(self, told: Pool, values_NL: Array, pending: Pool, *, has_to_tune: bool) -> None:
        """Take what is known.

        Args:
            told: Evaluated candidates.
            values_NL: Their learned metrics, to be minimised.
            pending: Candidates that are out.
            has_to_tune: Whether to fit the hyper-parameters anew.
        """
        scales = [MetricScale.of(column) for column in values_NL.T]
        scaled_NL = np.column_stack([s.forward(v) for s, v in zip(scales, values_NL.T, strict=True)])
        if has_to_tune:
            for model, scaled_N in zip(self._models, scaled_NL.T, strict=True):
                model.tune(told.codes_NP, told.features_ND, scaled_N)
        self._condition(told, scaled_NL)
        if pending.architectures:
            means = [model.predict(pending.codes_NP, pending.features_ND)[0] for model in self._models]
            believed = [scale.inverse(mean) for mean, scale in zip(means, scales, strict=True)]
            values_NL = np.vstack([values_NL, np.column_stack(believed)])
            told = told.joined(pending)
            self._condition(told, np.vstack([scaled_NL, np.column_stack(means)]))
        self._evidence = _Evidence(told, values_NL, scales)

    def gains(self, pool: Pool, generator: np.random.Generator, *, has_new_limits: bool) -> Array:
        """Return (N,) expected gains, times the chances that networks learn at all and that constraints are met.

        Args:
            pool: Candidates.
            generator: For more objectives than are integrated exactly.
            has_new_limits: Whether to set anew between which values gains count, from these candidates.
        """
        evidence, split = self._evidence, self._split
        is_feasible_N = split.is_feasible(evidence.values_NL, evidence.pool.known_NK)
        front_FM = split.objectives(evidence.values_NL, evidence.pool.known_NK)[is_feasible_N]
        front_FM = front_FM[front_indices(front_FM)] if len(front_FM) else front_FM
        predicted = [model.predict(pool.codes_NP, pool.features_ND) for model in self._models]
        if has_new_limits or self._limits is None:
            self._limits = self._expected_limits(front_FM, pool, predicted)
        predictions = [
            Prediction(mean_N, _SPREAD * deviation_N, scale)
            for (mean_N, deviation_N), scale in zip(predicted, evidence.scales, strict=True)
        ]
        gain_N = expected_gain(
            predictions[: split.num_targets],
            split.known_objectives(pool.known_NK),
            Scene(front_FM, *self._limits),
            generator,
            num_points=_NUM_POINTS,
        )
        for prediction in predictions[: split.num_targets]:
            gain_N = gain_N * prediction.probability_of_learning()
        return (gain_N + 1e-300) * split.chance_of_feasibility(predictions)

    def state_dict(self) -> State:
        """Return what the next ranking starts from as JSON."""
        return {
            "limits": None if self._limits is None else [row.tolist() for row in self._limits],
            "parameters": [model.parameters.tolist() for model in self._models],
        }

    def load_state_dict(self, state: State) -> None:
        """Continue from a state that `state_dict` gave.

        Raises:
            ValueError: If it is something else, or of other objectives.
        """
        limits = build(tuple[list[float], list[float]] | None, state.get("limits"))  # type: ignore[arg-type]
        every = build(list[list[float]], state.get("parameters"))
        if [len(parameters) for parameters in every] != [len(model.parameters) for model in self._models]:
            raise ValueError("`parameters` must be those of the models of this search, got others.")
        if limits is not None and {len(row) for row in limits} != {self._split.num_objectives}:
            raise ValueError("`limits` must be those of the objectives of this search, got others.")
        self._limits = None if limits is None else (np.array(limits[0]), np.array(limits[1]))
        for model, parameters in zip(self._models, every, strict=True):
            model.parameters = np.array(parameters)

    def _condition(self, pool: Pool, scaled_NL: Array) -> None:
        for model, scaled_N in zip(self._models, scaled_NL.T, strict=True):
            model.condition(pool.codes_NP, pool.features_ND, scaled_N)

    def _expected_limits(
        self, front_FM: Array, pool: Pool, predicted: list[tuple[Array, Array]]
    ) -> tuple[Array, Array]:
        """Return the ideal of the front that is expected, and a reference a tenth beyond its nadir.

        The nadir also covers the front of predictions that are one deviation better.
        """
        fronts = []
        for optimism in (0.0, 1.0):
            columns = [
                scale.inverse(mean - optimism * deviation)
                for (mean, deviation), scale in zip(predicted, self._evidence.scales, strict=True)
            ]
            expected_NM = self._split.objectives(np.column_stack(columns), pool.known_NK)
            values_NM = np.vstack([front_FM, expected_NM])
            fronts.append(values_NM[front_indices(values_NM)])
        ideal_M = fronts[0].min(axis=0)
        nadir_M = np.maximum(fronts[0].max(axis=0), fronts[1].max(axis=0))
        extent_M = np.where(nadir_M > ideal_M, nadir_M - ideal_M, np.maximum(np.abs(ideal_M), 1.0) * 1e-3)
        return ideal_M, nadir_M + 0.1 * extent_M
