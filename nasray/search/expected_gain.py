"""Expected gain in hypervolume of candidates whose costs are known and whose other metrics are predicted.

As the known metrics of a candidate are certain, only the predicted ones have to be integrated over.

Array letters: N candidates, F points of the front, M objectives, C points (cells) of objective space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from nasray.search.encoding import Array
from nasray.search.metric_scale import Prediction

_BLOCK = 256


@dataclass(frozen=True)
class Scene:
    """What gains are measured against.

    Args:
        front_FM: The front so far, the predicted objectives first, then the known ones; minimised.
        ideal_M: Best values that are expected.
        reference_M: Worst values that count.
    """

    front_FM: Array
    ideal_M: Array
    reference_M: Array


def expected_gain(
    predictions: list[Prediction], known_NK: Array, scene: Scene, generator: np.random.Generator, *, num_cells: int
) -> Array:
    """Return (N,) expected gains in hypervolume.

    With one predicted and one known objective this is exact; with more, the known (or all) dimensions are sampled.

    Args:
        predictions: Of the first objectives, at least one.
        known_NK: Values of the known objectives, to be minimised.
        scene: The front and the limits.
        generator: Shifts the sampled points.
        num_cells: Points to sample.
    """
    if len(predictions) > 1 or known_NK.shape[1] == 0:
        return _by_all_dimensions(predictions, known_NK, scene, generator, num_cells)
    if known_NK.shape[1] == 1:
        levels_C, width_NC = _slices(known_NK, scene)
    else:
        levels_C, width_NC = _columns(known_NK, scene, generator, num_cells)
    gain_N: Array = (width_NC * predictions[0].mean_below(levels_C)).sum(axis=1)
    return gain_N


def _slices(known_NK: Array, scene: Scene) -> tuple[Array, Array]:
    """Cut the axis of the one known objective where the front has its steps."""
    front_FM = scene.front_FM[np.argsort(scene.front_FM[:, 1], kind="stable")]
    edges = np.concatenate([[-np.inf], front_FM[:, 1], scene.reference_M[1:]])
    levels_C = np.minimum(np.append(np.inf, np.minimum.accumulate(front_FM[:, 0])), scene.reference_M[0])
    width_NC = np.maximum(edges[None, 1:] - np.maximum(edges[None, :-1], known_NK), 0.0)
    return levels_C, width_NC


def _columns(known_NK: Array, scene: Scene, generator: np.random.Generator, num_cells: int) -> tuple[Array, Array]:
    """Sample the known objectives; return the levels of the front, and of how many points a candidate covers each."""
    points_CK = _points(scene.ideal_M[1:], scene.reference_M[1:], generator, num_cells)
    is_below_FC = (scene.front_FM[:, None, 1:] <= points_CK[None]).all(axis=2)
    level_C = np.where(is_below_FC, scene.front_FM[:, :1], np.inf).min(axis=0, initial=np.inf)
    levels_L, which_C = np.unique(np.minimum(level_C, scene.reference_M[0]), return_inverse=True)
    hot_CL = np.eye(len(levels_L), dtype=np.float32)[which_C]
    return levels_L, _covered(known_NK, points_CK, hot_CL)


def _covered(known_NK: Array, points_CK: Array, hot_CL: np.ndarray) -> Array:
    blocks = []
    for start in range(0, len(known_NK), _BLOCK):
        known = known_NK[start : start + _BLOCK]
        covers = np.ones((len(known), len(points_CK)), dtype=bool)
        for k in range(known.shape[1]):
            covers &= known[:, k, None] <= points_CK[None, :, k]
        blocks.append(covers.astype(np.float32) @ hot_CL)
    return np.concatenate(blocks).astype(float)


def _by_all_dimensions(
    predictions: list[Prediction], known_NK: Array, scene: Scene, generator: np.random.Generator, num_cells: int
) -> Array:
    """Sample all objectives: the gain is the mean, over what is not dominated, of how probably it would be."""
    points_CM = _points(scene.ideal_M, scene.reference_M, generator, num_cells)
    is_dominated_C = (scene.front_FM[:, None] <= points_CM[None]).all(axis=2).any(axis=0)
    points_CM = points_CM[~is_dominated_C]
    num_predicted, gains = len(predictions), []
    for start in range(0, len(known_NK), _BLOCK):
        block = slice(start, start + _BLOCK)
        chance = np.ones((len(known_NK[block]), len(points_CM)))
        for m, whole in enumerate(predictions):
            part = Prediction(whole.mean_N[block], whole.deviation_N[block], whole.scale)
            chance *= part.probability_below(points_CM[:, m])
        for k in range(known_NK.shape[1]):
            chance *= known_NK[block, k, None] <= points_CM[None, :, num_predicted + k]
        gains.append(chance.sum(axis=1))
    return np.concatenate(gains)


def _points(low: Array, high: Array, generator: np.random.Generator, count: int) -> Array:
    points: Array = low + qmc.Sobol(len(low), rng=generator).random(count) * (high - low)
    return points
