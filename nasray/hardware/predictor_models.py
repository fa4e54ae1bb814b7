"""The models behind a cost predictor: small, fitted by scikit-learn, kept as plain numbers.

Array letters: N architectures, T those that a model was fitted to, F features.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nasray.reading import build, short

Array = npt.NDArray[np.float64]

_STRENGTHS = np.logspace(-8, 2, 21)
_MAX_TUNED = 300
_MAX_POINTS = 1000
_SMALLEST_SHARE = 0.1
"""Of the smallest value ever seen: what a prediction is raised to if it falls below."""


class PredictorModel(Protocol):
    """Predicts a positive value from features that are not negative."""

    kind: str

    def predict(self, features_NF: Array) -> Array:
        """Return (N,) positive values."""

    def to_json(self) -> dict[str, Any]:
        """Return everything that `from_json` needs."""


@dataclass(frozen=True)
class LinearModel:
    """A sum over features, fitted to the least squares of the relative error.

    What a sum over layers is: where layers don't disturb each other it is as good as a lookup table, from far fewer
    measurements.

    Args:
        weights_F: Weight of each feature.
        intercept: Constant part.
        floor: Smallest prediction.
    """

    weights_F: Array
    intercept: float
    floor: float
    kind = "linear"

    @classmethod
    def fit(cls, features_NF: Array, values_N: Array) -> LinearModel:
        """Fit to positive values; the strength of the ridge is chosen by leaving one out."""
        from sklearn.linear_model import RidgeCV

        # Dividing rows by their value turns the squared error into the squared relative error.
        shares_NF = np.column_stack([np.ones(len(values_N)), features_NF]) / values_N[:, None]
        # Scaled after the division, so that the largest networks don't decide what a feature weighs.
        sizes_F = np.sqrt((shares_NF**2).mean(axis=0))
        sizes_F = np.where(sizes_F > 0, sizes_F, 1.0)
        ridge = RidgeCV(_STRENGTHS, fit_intercept=False).fit(shares_NF / sizes_F, np.ones(len(values_N)))
        weights_F = ridge.coef_ / sizes_F
        return cls(weights_F[1:], float(weights_F[0]), _SMALLEST_SHARE * float(values_N.min()))

    def predict(self, features_NF: Array) -> Array:
        """Return (N,) positive values."""
        sums_N = self.intercept + features_NF @ self.weights_F
        return np.asarray(np.maximum(sums_N, self.floor))

    def fits(self, num_features: int) -> bool:
        """Whether there is a weight for each feature, and a floor above 0."""
        return _shape(self.weights_F) == (num_features,) and _shape(self.intercept) == () and self.floor > 0

    def to_json(self) -> dict[str, Any]:
        """Return everything that `from_json` needs."""
        return _to_json(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LinearModel:
        """Read what `to_json` wrote."""
        return cls(*(_read(value[name]) for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class GaussianProcess:
    """A Gaussian process on logarithms of features and values: a linear and a smooth part, which learns what sums miss.

    Settings of the kernel are fitted to at most 300 points, the process to at most 1,000, drawn at random.

    Args:
        centre_F: Mean of the logarithm of 1 + each feature.
        scale_F: Deviation of the same.
        points_TF: Scaled features that it was fitted to.
        weights_T: Weight of the kernel to each of them.
        mean: Of the logarithms.
        deviation: Of the logarithms.
        kernel: Variance of the smooth part, its length, variance of the linear part, its offset.
    """

    centre_F: Array
    scale_F: Array
    points_TF: Array
    weights_T: Array
    mean: float
    deviation: float
    kernel: Array
    kind = "gaussian_process"

    @classmethod
    def fit(cls, features_NF: Array, values_N: Array) -> GaussianProcess:
        """Fit to positive values by the marginal likelihood."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor

        order_N = np.random.default_rng(0).permutation(len(values_N))[:_MAX_POINTS]
        features_TF, logs_T = np.log1p(features_NF[order_N]), np.log(values_N[order_N])
        centre_F, scale_F = _scale(features_TF)
        points_TF = (features_TF - centre_F) / scale_F
        mean, deviation = float(logs_T.mean()), float(logs_T.std()) or 1.0
        scaled_T = (logs_T - mean) / deviation
        with warnings.catch_warnings():
            # Settings at the edge of their range are as good as any beyond.
            warnings.simplefilter("ignore", ConvergenceWarning)
            tuned = GaussianProcessRegressor(_kernel(points_TF.shape[1]), random_state=0)
            tuned.fit(points_TF[:_MAX_TUNED], scaled_T[:_MAX_TUNED])
            whole = GaussianProcessRegressor(tuned.kernel_, optimizer=None).fit(points_TF, scaled_T)
        smooth, linear = tuned.kernel_.k1.k1, tuned.kernel_.k1.k2
        settings = [
            smooth.k1.constant_value,
            smooth.k2.length_scale,
            linear.k1.constant_value,
            linear.k2.sigma_0,
        ]
        return cls(centre_F, scale_F, points_TF, whole.alpha_, mean, deviation, np.array(settings, dtype=float))

    def predict(self, features_NF: Array) -> Array:
        """Return (N,) positive values."""
        smooth, length, linear, offset = self.kernel
        scaled_NF = (np.log1p(features_NF) - self.centre_F) / self.scale_F
        products_NT = scaled_NF @ self.points_TF.T
        squares_NT = (scaled_NF**2).sum(1)[:, None] + (self.points_TF**2).sum(1) - 2 * products_NT
        kernel_NT = smooth * np.exp(-0.5 * np.maximum(squares_NT, 0) / length**2) + linear * (offset**2 + products_NT)
        logs_N = kernel_NT @ self.weights_T * self.deviation + self.mean
        return np.asarray(np.exp(np.clip(logs_N, -600, 600)))

    def fits(self, num_features: int) -> bool:
        """Whether there is a number for each feature, weight and setting, and no scale or length of 0 or less."""
        expected = ((num_features,), (num_features,), (len(self.weights_T), num_features), (4,), (), ())
        found = (self.centre_F, self.scale_F, self.points_TF, self.kernel, self.mean, self.deviation)
        has_shapes = tuple(map(_shape, found)) == expected and _shape(self.weights_T) == (len(self.weights_T),)
        return has_shapes and bool((self.scale_F > 0).all()) and self.deviation > 0 and bool((self.kernel >= 0).all())

    def to_json(self) -> dict[str, Any]:
        """Return everything that `from_json` needs."""
        return _to_json(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> GaussianProcess:
        """Read what `to_json` wrote."""
        return cls(*(_read(value[name]) for name in cls.__dataclass_fields__))


MODELS: dict[str, type[LinearModel] | type[GaussianProcess]] = {
    "linear": LinearModel,
    "gaussian_process": GaussianProcess,
}
"""The models by kind. Boosted trees were no better from 200 measurements and cannot be kept as a few numbers."""


def model_from_json(value: Mapping[str, Any], num_features: int) -> PredictorModel:
    """Read what a model's `to_json` wrote.

    Args:
        value: The model.
        num_features: Features that it must be for.

    Raises:
        ValueError: If the kind is unknown, or numbers are missing or too many.
    """
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in MODELS:
        raise ValueError(f"`kind` must be one of {', '.join(MODELS)}, got {short(kind)}.")
    names = set(MODELS[kind].__dataclass_fields__)
    if set(value) != {"kind", *names}:
        raise ValueError(f"A model of kind {kind} must have {', '.join(sorted(names))}, got {', '.join(value)}.")
    model = MODELS[kind].from_json(value)
    if not model.fits(num_features):
        raise ValueError(f"A model of kind {kind} must have numbers for {num_features} features, got others.")
    return model


def _kernel(num_features: int) -> Any:
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

    length = float(np.sqrt(num_features))
    smooth = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(length, (0.3 * length, 30 * length))
    linear = ConstantKernel(1 / num_features, (1e-5, 1e3)) * DotProduct(1.0, (1e-3, 1e3))
    return smooth + linear + WhiteKernel(1e-2, (1e-6, 1.0))


def _scale(features_NF: Array) -> tuple[Array, Array]:
    deviation_F = features_NF.std(axis=0)
    return features_NF.mean(axis=0), np.where(deviation_F > 0, deviation_F, 1.0)


def _to_json(model: LinearModel | GaussianProcess) -> dict[str, Any]:
    fields = {name: getattr(model, name) for name in model.__dataclass_fields__}
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}
    return {"kind": model.kind, **plain}


def _read(value: Any) -> Any:
    if not isinstance(value, list):
        return build(float, value)
    return np.array(build(list[float] if not value or not isinstance(value[0], list) else list[list[float]], value))


def _shape(value: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = np.shape(value)
    return shape
