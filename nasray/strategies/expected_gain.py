"""Expected gain in hypervolume of candidates whose costs are known and whose other metrics are predicted.

What a candidate gains is the volume of boxes between its own values and the front. As the metrics are predicted
independently of each other, the mean volume of a box is the product of mean lengths, and costs are certain lengths.

Array letters: N candidates, F points of the front, M objectives, C sampled points of objective space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from nasray.strategies.encoding import Array
from nasray.strategies.metric_scale import Prediction

_BLOCK, _MOST_EXACT = 256, 3


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
    predictions: list[Prediction], known_NK: Array, scene: Scene, generator: np.random.Generator, *, num_points: int
) -> Array:
    """Return (N,) expected gains in hypervolume.

    With up to three objectives this is exact; with more, the share of points sampled between the limits of the scene.

    Args:
        predictions: Of the first objectives, at least one.
        known_NK: Values of the known objectives, to be minimised.
        scene: The front and the limits.
        generator: Shifts the sampled points.
        num_points: Points to sample.

    Source: Emmerich et al. 2006 (expected hypervolume improvement as a sum over boxes). Deviation: known objectives
    are not integrated over.
    """
    if len(predictions) + known_NK.shape[1] > _MOST_EXACT:
        return _sampled(predictions, known_NK, scene, generator, num_points)
    front_FM = np.minimum(scene.front_FM, scene.reference_M)
    levels_FM = np.vstack([front_FM, scene.reference_M])
    lengths = [whole.mean_below(levels_FM[:, m]) for m, whole in enumerate(predictions)]
    for k in range(known_NK.shape[1]):
        lengths.append(np.maximum(levels_FM[None, :, len(predictions) + k] - known_NK[:, k, None], 0.0))
    return _volume(lengths, front_FM)


def _volume(lengths: list[Array], front_FM: Array) -> Array:
    """Return (N,) volumes that candidates dominate and the front does not.

    Args:
        lengths: For each objective (N, F + 1): how far a candidate lies below each point of the front, and below the
            reference.
        front_FM: The front.
    """
    if len(lengths) == 1:
        return lengths[0][:, front_FM.argmin() if len(front_FM) else -1]
    if len(lengths) == 2:
        return _area(lengths, front_FM, np.argsort(front_FM[:, 0], kind="stable"))
    by_first_F, by_last_F = (np.argsort(front_FM[:, m], kind="stable") for m in (0, 2))
    place_F = np.argsort(by_last_F, kind="stable")
    volume_N, lower_N = np.zeros(len(lengths[0])), np.zeros(len(lengths[0]))
    for number, upper in enumerate([*by_last_F.tolist(), -1]):
        upper_N = lengths[2][:, upper]
        volume_N += (upper_N - lower_N) * _area(lengths[:2], front_FM, by_first_F[place_F[by_first_F] < number])
        lower_N = upper_N
    return volume_N


def _area(lengths: list[Array], front_FM: Array, order_F: np.ndarray) -> Array:
    """Return (N,) areas in the first two objectives, outside what some points dominate.

    Args:
        lengths: As for `_volume`.
        front_FM: The front.
        order_F: The points that count, in ascending order of the first objective.
    """
    heights_F = front_FM[order_F, 1]
    lowest_F = np.minimum.accumulate(np.append(np.inf, heights_F))
    steps = order_F[heights_F < lowest_F[:-1]].tolist()
    strips_NC = np.diff(lengths[0][:, [*steps, -1]], axis=1, prepend=0.0)
    area_N: Array = (strips_NC * lengths[1][:, [-1, *steps]]).sum(axis=1)
    return area_N


def _sampled(
    predictions: list[Prediction], known_NK: Array, scene: Scene, generator: np.random.Generator, num_points: int
) -> Array:
    """Return the mean, over points that the front does not dominate, of how probably a candidate would."""
    points_CM = qmc.Sobol(len(scene.ideal_M), rng=generator).random(num_points)
    points_CM = scene.ideal_M + points_CM * (scene.reference_M - scene.ideal_M)
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
        gains.append(chance.sum(axis=1) / num_points)
    return np.concatenate(gains)
