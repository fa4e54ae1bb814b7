"""A cost learned from a sample of measurements, with an interval for each prediction.

Array letters: N architectures asked for, T measured ones, K folds, F features.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nasray.architecture import Architecture
from nasray.hardware.cost import Cost, CostValue
from nasray.hardware.cost_sample import CostSample
from nasray.hardware.features import feature_matrix, features, space_digest
from nasray.hardware.predictor_models import MODELS, PredictorModel, model_from_json
from nasray.reading import build, read_json
from nasray.spaces.space import SearchSpace

Array = npt.NDArray[np.float64]

SCHEMA_VERSION = 1
_NUM_FOLDS = 5
_LEAST_SAMPLES = 20


@dataclass(frozen=True, kw_only=True)
class PredictorCheck:
    """How well a predictor does on architectures that it has not seen, by cross-validation.

    Args:
        num_samples: Measured architectures.
        mean_absolute_percentage_error: Mean of |predicted - measured| / measured, in percent.
        kendall_tau: Rank correlation (tau-b) of predicted and measured; 1 is best.
    """

    num_samples: int
    mean_absolute_percentage_error: float
    kendall_tau: float


class CostPredictor(Cost):
    """Latency, energy or another positive cost, predicted from the plan of a network or from its choices.

    Made by `fit` or `load`. Wrong for architectures that are far from all measured ones: intervals hold for
    architectures drawn like the sample.

    Source: Barber et al. 2021 (Predictive inference with the jackknife+), eq. 11 (CV+), for the intervals: on the
    logarithm, so that they widen with the value. Deviation: the kind of model is chosen by the same folds, which
    weighs next to nothing with two kinds. CV+ guarantees 1 - 2 x (1 - coverage) less a small term; the stated
    coverage is what it reaches in practice.

    Attributes:
        space: The search space.
        name: What the cost is called.
        unit: Of its values.
        device: What was measured on.
        coverage: Share of measurements that intervals hold.
        check: How good it is.
        kind: Kind of the model, of `MODELS`.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        name: str,
        unit: str,
        device: str,
        coverage: float,
        feature_names: Sequence[str],
        model: PredictorModel,
        fold_models: Sequence[PredictorModel],
        fold_of_T: npt.NDArray[np.intp],
        residuals_T: Array,
        check: PredictorCheck,
    ) -> None:
        self.space, self.name, self.unit, self.device = space, name, unit, device
        self.coverage, self.check, self.kind = coverage, check, model.kind
        self._feature_names, self._model, self._fold_models = list(feature_names), model, list(fold_models)
        self._fold_of_T, self._residuals_T = fold_of_T, residuals_T

    @classmethod
    def fit(
        cls,
        space: SearchSpace,
        sample: CostSample,
        *,
        name: str = "latency",
        coverage: float = 0.9,
        kind: str | None = None,
        seed: int = 0,
    ) -> CostPredictor:
        """Learn from measurements.

        Args:
            space: The space of the sample.
            sample: Architectures and values.
            name: What the cost is called.
            coverage: Share of measurements that intervals are to hold, in (0, 1).
            kind: Kind of model, of `MODELS`; `None` takes the one with the least mean relative error over the folds.
            seed: Seed of the folds.

        Raises:
            ValueError: If there are too few samples, they are of another space, or a setting is out of range.
        """
        if not 0 < coverage < 1:
            raise ValueError(f"`coverage` must be between 0 and 1, got {coverage}. Use 0.9.")
        if kind is not None and kind not in MODELS:
            raise ValueError(f"`kind` must be one of {', '.join(MODELS)}, got {kind!r}.")
        if sample.space != space.name:
            raise ValueError(f"`sample` must be of space {space.name!r}, got {sample.space!r}.")
        least = max(_LEAST_SAMPLES, math.ceil(2 / (1 - coverage) - 1e-9))  # 1 - 0.9 is less than 0.1
        num = len(sample.values_N)
        if num < least:
            raise ValueError(
                f"`sample` must hold at least {least} architectures for a coverage of {coverage:g}, got {num}. "
                "Measure more of them."
            )
        rows = [features(space, architecture) for architecture in sample.architectures]
        names = sorted({feature for row in rows for feature in row})
        features_TF, values_T = feature_matrix(rows, names), sample.values_N
        fold_of_T = np.random.default_rng(seed).permutation(num) % _NUM_FOLDS
        tried = {each: _cross_validate(each, features_TF, values_T, fold_of_T) for each in ([kind] if kind else MODELS)}
        best = min(tried, key=lambda each: _relative_error(tried[each][1], values_T))
        fold_models, unseen_T = tried[best]
        return cls(
            space,
            name=name,
            unit=sample.unit,
            device=sample.device,
            coverage=coverage,
            feature_names=names,
            model=MODELS[best].fit(features_TF, values_T),
            fold_models=fold_models,
            fold_of_T=fold_of_T,
            residuals_T=np.abs(np.log(unseen_T / values_T)),
            check=check_predictions(unseen_T, values_T),
        )

    def __call__(self, architecture: Architecture) -> CostValue:
        """Return the predicted cost; the spread is half the width of its interval.

        Raises:
            ValueError: If the architecture is of another space.
        """
        (value,), ((low, high),) = self.predict([architecture]), self.intervals([architecture])
        return CostValue(
            value=float(value),
            unit=self.unit,
            source=self.describe(),
            quality="predicted",
            spread=float(high - low) / 2,
        )

    def predict(self, architectures: Sequence[Architecture]) -> Array:
        """Return (N,) values.

        Raises:
            ValueError: If an architecture is of another space.
        """
        return self._model.predict(self._matrix(architectures))

    def intervals(self, architectures: Sequence[Architecture]) -> Array:
        """Return (N, 2) lower and upper ends of intervals that hold the stated share of measurements.

        Raises:
            ValueError: If an architecture is of another space.
        """
        features_NF = self._matrix(architectures)
        logs_KN = np.log([model.predict(features_NF) for model in self._fold_models])
        ends_N2 = np.empty((len(features_NF), 2))
        num = len(self._residuals_T)
        rank = min(num, math.ceil(self.coverage * (num + 1))) - 1
        # One architecture at a time: all at once would take N x T numbers.
        for index, logs_K in enumerate(logs_KN.T):
            centres_T = logs_K[self._fold_of_T]
            ends_N2[index, 0] = -np.partition(self._residuals_T - centres_T, rank)[rank]
            ends_N2[index, 1] = np.partition(self._residuals_T + centres_T, rank)[rank]
        return np.asarray(np.exp(ends_N2))

    def describe(self) -> str:
        """Return a short text: the model, the device and how good it is."""
        check = self.check
        return (
            f"{self.kind.replace('_', ' ')} predictor from {check.num_samples} measurements, {self.device}; "
            f"cross-validated error {check.mean_absolute_percentage_error:.1f} %, Kendall tau {check.kendall_tau:.2f}; "
            f"{100 * self.coverage:g} % intervals"
        )

    def save(self, path: Path) -> None:
        """Write the predictor as one JSON file."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "space": self.space.name,
            "space_digest": space_digest(self.space),
            "name": self.name,
            "unit": self.unit,
            "device": self.device,
            "coverage": self.coverage,
            "features": self._feature_names,
            "model": self._model.to_json(),
            "fold_models": [model.to_json() for model in self._fold_models],
            "fold_of_sample": self._fold_of_T.tolist(),
            "residuals": self._residuals_T.tolist(),
            "check": asdict(self.check),
        }
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path, space: SearchSpace, *, device: str | None = None) -> CostPredictor:
        """Read a predictor.

        Args:
            path: The file.
            space: The space that it must be for.
            device: The device that it must be for; `None` takes that of the file.

        Raises:
            ValueError: If the file is no predictor, or one for another space or device.
        """
        content = _read(path)
        if (content.space, content.space_digest) != (space.name, space_digest(space)):
            raise ValueError(
                f"`path` must be a predictor for the space {space.name!r} with these choices and networks, got one "
                f"for {content.space!r} in {path}. Fit one for this space."
            )
        if device is not None and content.device != device:
            raise ValueError(
                f"`path` must be a predictor for {device!r}, got one for {content.device!r} in {path}. "
                "Fit one for this device."
            )
        num_features = len(content.features)
        try:
            model, *fold_models = (
                model_from_json(each, num_features) for each in (content.model, *content.fold_models)
            )
        except ValueError as error:
            raise ValueError(
                f"`path` must be a predictor, got {path}, which is damaged ({error}). Fit it again."
            ) from error
        return cls(
            space,
            name=content.name,
            unit=content.unit,
            device=content.device,
            coverage=content.coverage,
            feature_names=content.features,
            model=model,
            fold_models=fold_models,
            fold_of_T=np.array(content.fold_of_sample, dtype=np.intp),
            residuals_T=np.array(content.residuals, dtype=float),
            check=content.check,
        )

    def _matrix(self, architectures: Sequence[Architecture]) -> Array:
        return feature_matrix([features(self.space, each) for each in architectures], self._feature_names)


def check_predictions(predicted_N: Array, measured_N: Array) -> PredictorCheck:
    """Return how well predictions agree with measurements."""
    from scipy.stats import kendalltau

    tau = float(kendalltau(predicted_N, measured_N).statistic)
    return PredictorCheck(
        num_samples=len(measured_N),
        mean_absolute_percentage_error=100 * _relative_error(predicted_N, measured_N),
        kendall_tau=0.0 if math.isnan(tau) else tau,  # all values alike: no order to predict
    )


def _cross_validate(
    kind: str, features_TF: Array, values_T: Array, fold_of_T: npt.NDArray[np.intp]
) -> tuple[list[PredictorModel], Array]:
    """Return a model without each fold, and what it predicts for that fold."""
    models: list[PredictorModel] = []
    unseen_T = np.empty(len(values_T))
    for fold in range(_NUM_FOLDS):
        is_unseen_T = fold_of_T == fold
        models.append(MODELS[kind].fit(features_TF[~is_unseen_T], values_T[~is_unseen_T]))
        unseen_T[is_unseen_T] = models[-1].predict(features_TF[is_unseen_T])
    return models, unseen_T


def _relative_error(predicted_N: Array, measured_N: Array) -> float:
    return float(np.mean(np.abs(predicted_N / measured_N - 1)))


@dataclass(frozen=True, kw_only=True)
class _PredictorFile:
    """What `CostPredictor.save` writes."""

    schema_version: Literal[1]
    space: str
    space_digest: str
    name: str
    unit: str
    device: str
    coverage: float
    features: list[str]
    model: dict[str, Any]
    fold_models: list[dict[str, Any]]
    fold_of_sample: list[int]
    residuals: list[float]
    check: PredictorCheck

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            raise ValueError(f"`coverage` must be in (0, 1), got {self.coverage}")
        if not 0 < len(self.residuals) == len(self.fold_of_sample) or min(self.residuals) < 0:
            raise ValueError("`residuals` must be 0 or more, one for each of `fold_of_sample`")
        if not 0 <= min(self.fold_of_sample) <= max(self.fold_of_sample) < len(self.fold_models):
            raise ValueError(f"`fold_of_sample` must number the {len(self.fold_models)} models of folds from 0")


def _read(path: Path) -> _PredictorFile:
    try:
        return build(_PredictorFile, read_json(path))
    except FileNotFoundError:
        raise ValueError(f"`path` must be a predictor, got {path}, which does not exist. Fit and save one.") from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`path` must be a predictor of schema version {SCHEMA_VERSION}, got {path}, which cannot be read "
            f"({error}). Fit and save it again."
        ) from error
