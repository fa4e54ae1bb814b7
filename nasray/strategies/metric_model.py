"""A Gaussian process that learns a metric of architectures from few evaluations.

Array letters: N, M architectures, P choices, G choices of a group, E dimensions of an embedding, K features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from nasray.strategies.encoding import Array, Codes, Slot

_LENGTH_SCALE, _FEATURE_WEIGHT, _EMBEDDING_DEVIATION, _ITERATIONS = 2.0, 0.05, 0.1, 30
_SCALES_MEAN, _SCALES_DEVIATION = np.log([0.5, 0.5, 0.02]), np.array([1.0, 1.0, 1.5])
_MOST_TO_TUNE_ON, _BLOCK, _LOCALITY = 400, 512, 4.0


@dataclass(frozen=True)
class _Kernel:
    """Hyper-parameters in their natural form."""

    scales: Array  # variances: smooth, of features alone, of noise
    weights_P: Array
    joint_K: Array  # weights of the features beside the choices
    alone_K: Array
    points: list[Array]  # by group: (options, E), where each option lies


class MetricModel:
    """Predicts a metric from the choices of an architecture and from features of it.

    The kernel is s0 exp(-|phi - phi'|^2) + s1 exp(-|f - f'|^2) + s2 [same], with phi the choices, each embedded as a
    point, and the features f. Where an option lies is learned, once for all choices that have the same options;
    weights, scales and points maximise the marginal likelihood times a log-normal prior.

    Args:
        slots: The choices.
        num_features: K.
    """

    def __init__(self, slots: Sequence[Slot], num_features: int) -> None:
        groups = sorted({slot.group for slot in slots})
        self._columns = [np.array([p for p, s in enumerate(slots) if s.group == group]) for group in groups]
        self._start = [_start_points(slots[columns[0]]) for columns in self._columns]
        embedded = [points.ravel() for points in self._start]
        features = np.full(num_features, np.log(_FEATURE_WEIGHT))
        weights = np.full(len(slots), np.log(_LENGTH_SCALE / len(slots)))
        self._mean = np.concatenate([_SCALES_MEAN, weights, features, features, *embedded])
        sizes = [len(_SCALES_MEAN), len(slots), num_features, num_features, *(len(points) for points in embedded)]
        self._cuts = np.cumsum(sizes)[:-1]
        wide = np.ones(sum(sizes[1:4]))
        narrow = np.full(sum(sizes[4:]), _EMBEDDING_DEVIATION)
        self._deviation = np.concatenate([_SCALES_DEVIATION, wide, narrow])
        self.parameters: Array = self._mean.copy()

    def tune(self, codes_NP: Codes, features_NK: Array, values_N: Array) -> None:
        """Fit the hyper-parameters, from where they are; to the last 400 architectures if there are more."""
        last = slice(-_MOST_TO_TUNE_ON, None)
        codes_NP, features_NK, values_N = codes_NP[last], features_NK[last], values_N[last]
        scaled_N = (values_N - values_N.mean()) / (values_N.std() + 1e-9)
        result = minimize(
            self._objective,
            self.parameters,
            args=(codes_NP, features_NK, scaled_N),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _ITERATIONS},
        )
        self.parameters = np.asarray(result.x, dtype=float)

    def condition(self, codes_NP: Codes, features_NK: Array, values_N: Array) -> None:
        """Take the evaluations that predictions are to be based on."""
        self._codes_NP, self._features_NK = codes_NP, features_NK
        self._centre, self._scale = float(values_N.mean()), float(values_N.std()) + 1e-9
        kernel = self._kernel(self.parameters)
        gram_NN = sum(self._terms(kernel, codes_NP, features_NK, codes_NP, features_NK))
        lower_NN = cholesky(gram_NN + (kernel.scales[-1] + 1e-6) * np.eye(len(values_N)), lower=True)
        self._whiten_NN: Array = solve_triangular(lower_NN, np.eye(len(values_N)), lower=True)
        scaled_N = (values_N - self._centre) / self._scale
        self._alpha_N: Array = self._whiten_NN.T @ (self._whiten_NN @ scaled_N)
        # Squared leave-one-out residuals in units of their predicted deviations (Rasmussen and Williams, eq. 5.12).
        self._misses_N: Array = self._alpha_N**2 / (self._whiten_NN**2).sum(axis=0)

    def predict(self, codes_NP: Codes, features_NK: Array) -> tuple[Array, Array]:
        """Return (N,) means and (N,) standard deviations of the metric, noise included.

        Deviations are corrected by how far the known values nearby were missed when left out: the model is surer where
        all fail alike than among the good.
        """
        kernel = self._kernel(self.parameters)
        mean_N, variance_N = np.empty(len(codes_NP)), np.empty(len(codes_NP))
        amplitude = kernel.scales[:-1].sum()
        for block in (slice(start, start + _BLOCK) for start in range(0, len(codes_NP), _BLOCK)):
            terms = self._terms(kernel, codes_NP[block], features_NK[block], self._codes_NP, self._features_NK)
            cross = sum(terms)
            mean_N[block] = cross @ self._alpha_N
            variance = np.maximum(kernel.scales.sum() - ((cross @ self._whiten_NN.T) ** 2).sum(axis=1), 1e-6)
            near = (cross / amplitude) ** _LOCALITY
            variance_N[block] = variance * (near @ self._misses_N + 1) / (near.sum(axis=1) + 1)
        return mean_N * self._scale + self._centre, np.sqrt(variance_N) * self._scale

    def _kernel(self, parameters: Array) -> _Kernel:
        scales, weights, joint, alone, *points = np.split(parameters, self._cuts)
        placed = [row.reshape(start.shape) for start, row in zip(self._start, points, strict=True)]
        return _Kernel(np.exp(scales), np.exp(weights), np.exp(joint), np.exp(alone), placed)

    def _terms(
        self, kernel: _Kernel, codes_NP: Codes, features_NK: Array, others_MP: Codes, other_features_MK: Array
    ) -> tuple[Array, Array]:
        """Return the two parts of the kernel, (N, M) each."""
        phi, psi = (
            np.hstack([*self._weighted(kernel, codes), features * np.sqrt(kernel.joint_K)])
            for codes, features in ((codes_NP, features_NK), (others_MP, other_features_MK))
        )
        root = np.sqrt(kernel.alone_K)
        return (
            kernel.scales[0] * _gauss(phi, psi),
            kernel.scales[1] * _gauss(features_NK * root, other_features_MK * root),
        )

    def _weighted(self, kernel: _Kernel, codes_NP: Codes) -> list[Array]:
        """Return (N, G * E) for each group: where the choices lie, times the roots of their weights."""
        roots = np.sqrt(kernel.weights_P)
        return [
            (points[codes_NP[:, columns]] * roots[columns, None]).reshape(len(codes_NP), -1)
            for columns, points in zip(self._columns, kernel.points, strict=True)
        ]

    def _objective(
        self, parameters: Array, codes_NP: Codes, features_NK: Array, values_N: Array
    ) -> tuple[float, Array]:
        """Return the negative log posterior of the hyper-parameters, and its gradient."""
        kernel = self._kernel(parameters)
        smooth_NN, alone_NN = self._terms(kernel, codes_NP, features_NK, codes_NP, features_NK)
        identity_NN = np.eye(len(values_N))
        gram_NN = smooth_NN + alone_NN + (kernel.scales[-1] + 1e-6) * identity_NN
        try:
            lower_NN = cholesky(gram_NN, lower=True, check_finite=False)
        except LinAlgError:
            return 1e10, np.zeros_like(parameters)
        inverse_NN = cho_solve((lower_NN, True), identity_NN, check_finite=False)
        alpha_N = inverse_NN @ values_N
        slope_NN = inverse_NN - np.outer(alpha_N, alpha_N)  # twice the gradient by the Gram matrix
        by_scale = [(slope_NN * term).sum() for term in (smooth_NN, alone_NN)]
        by_scale.append(kernel.scales[-1] * np.trace(slope_NN))
        smooth_slope_NN = slope_NN * smooth_NN
        by_weight_P, by_point = self._choice_gradients(kernel, codes_NP, smooth_slope_NN)
        gradient = np.concatenate(
            [
                0.5 * np.array(by_scale),
                by_weight_P,
                -kernel.joint_K * (features_NK * _drift(features_NK, smooth_slope_NN)).sum(axis=0),
                -kernel.alone_K * (features_NK * _drift(features_NK, slope_NN * alone_NN)).sum(axis=0),
                *(rows.ravel() for rows in by_point),
            ]
        )
        step = (parameters - self._mean) / self._deviation
        loss = 0.5 * values_N @ alpha_N + np.log(np.diag(lower_NN)).sum() + 0.5 * step @ step
        return float(loss), gradient + step / self._deviation

    def _choice_gradients(self, kernel: _Kernel, codes_NP: Codes, slope_NN: Array) -> tuple[Array, list[Array]]:
        """Return the gradients by the choices' weights and by the options' points."""
        by_weight_P, by_point = np.zeros_like(kernel.weights_P), []
        for columns, points in zip(self._columns, kernel.points, strict=True):
            codes_NG = codes_NP[:, columns]
            placed_NGE = points[codes_NG]
            drift_NGE = _drift(placed_NGE.reshape(len(codes_NP), -1), slope_NN).reshape(placed_NGE.shape)
            by_weight_P[columns] = -kernel.weights_P[columns] * (placed_NGE * drift_NGE).sum(axis=(0, 2))
            pull_NGE = -2 * kernel.weights_P[columns, None] * drift_NGE
            pulls = np.zeros_like(points)
            for e in range(points.shape[1]):
                pulls[:, e] = np.bincount(codes_NG.ravel(), pull_NGE[:, :, e].ravel(), len(points))
            by_point.append(pulls)
        return by_weight_P, by_point


def _start_points(slot: Slot) -> Array:
    """Return where the options lie at first: numbers on a line, others each at distance 1 from all others."""
    if slot.is_ordinal or slot.num_options == 1:
        line: Array = np.linspace(0.0, 1.0, slot.num_options)[:, None]
        return line
    centred = (np.eye(slot.num_options) - 1 / slot.num_options) / np.sqrt(2)
    left, lengths, _ = np.linalg.svd(centred)
    simplex: Array = (left * lengths)[:, : slot.num_options - 1]
    return simplex


def _gauss(a: Array, b: Array) -> Array:
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2 * a @ b.T
    kernel: Array = np.exp(-np.maximum(squares, 0.0))
    return kernel


def _drift(places_NK: Array, slope_NN: Array) -> npt.NDArray[np.float64]:
    """Return sum_j slope_ij (x_i - x_j) for each architecture i; slope is symmetric.

    Its product with x, summed over i, is half of sum_ij slope_ij (x_i - x_j)^2.
    """
    drift_NK: Array = slope_NN.sum(axis=1)[:, None] * places_NK - slope_NN @ places_NK
    return drift_NK
