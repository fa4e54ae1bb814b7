"""The gains of candidates against integrals over what is predicted of them."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from nasray.formulations import Pareto
from nasray.objectives import Constraint, Objective
from nasray.spaces.tabular import TabularSpace
from nasray.strategies.candidate_pool import CandidatePool
from nasray.strategies.encoding import ChoiceEncoder
from nasray.strategies.gain_ranking import GainRanking
from nasray.strategies.metric_model import MetricModel
from nasray.strategies.metric_scale import MetricScale
from nasray.strategies.split_objectives import SplitObjectives

TOLD = np.array([4.0, 6.0, 6.5, 7.0, 9.0, 12.0, 30.0, 90.0])
# On the scale; no mean is better than the best told, so that all that is better than this counts.
MEANS, DEVIATIONS = np.array([0.7, 1.0, 2.0, 2.6, 3.4]), np.array([0.4, 0.8, 1.5, 2.0, 3.0])


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> tuple[GainRanking, CandidatePool]:
    """Return a ranking whose model says what the constants above do, and its candidates."""
    frame = pd.DataFrame({"a": range(len(TOLD)), "cost": np.arange(len(TOLD)) + 1.0})
    space = TabularSpace(frame, architecture="a", metrics=["cost"])
    pools = CandidatePool(space, space.metrics)
    split = SplitObjectives(Pareto([Objective(name="error")], [Constraint.parse("cost<=100")]), pools.names)
    monkeypatch.setattr(MetricModel, "tune", lambda *arguments: None)
    monkeypatch.setattr(MetricModel, "condition", lambda *arguments: None)
    monkeypatch.setattr(MetricModel, "predict", lambda *arguments: (MEANS, DEVIATIONS))
    return GainRanking(split, ChoiceEncoder(space).slots, pools.num_features), pools


def test_gains_are_expected_improvements_times_the_chances_to_learn_at_all(
    predicted: tuple[GainRanking, CandidatePool],
) -> None:
    ranking, pools = predicted
    assert pools.whole is not None
    ranking.learn(pools.whole, TOLD[:, None], pools.of([]), has_to_tune=True)
    gain_N = ranking.gains(pools.whole.take(range(5)), np.random.default_rng(0), has_new_limits=True)

    # The integral over the prediction, by the midpoint rule; 0.6 of the model's deviations count.
    quantiles = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    scale = MetricScale.of(TOLD)
    expected_N = []
    for mean, deviation in zip(MEANS, 0.6 * DEVIATIONS, strict=True):
        errors = scale.inverse(mean + deviation * quantiles)
        improvement = np.maximum(TOLD.min() - errors, 0.0).mean()
        # A network learns if its error lies half a unit of the scale below the knee.
        expected_N.append(improvement * np.mean(errors < scale.inverse(np.array(scale.knee - 0.5))))
    assert min(expected_N) > 1e-5
    np.testing.assert_allclose(gain_N, expected_N, rtol=2e-3)
