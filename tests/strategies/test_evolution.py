"""Whom the population of asynchronous evolution lets go."""

import numpy as np
import pandas as pd
import pytest

from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.spaces.tabular import TabularSpace
from nasray.strategies.evolution import AsynchronousEvolution


def grid() -> TabularSpace:
    rows = [(a, b, c, float(a)) for a in range(5) for b in range(5) for c in range(5)]
    return TabularSpace(
        pd.DataFrame(rows, columns=["a", "b", "c", "error"]), architecture="a,b,c", metrics=["error"], name="grid"
    )


@pytest.mark.parametrize(("has_ageing", "gone"), [(False, 1), (True, 0)])
def test_the_worst_or_with_ageing_the_oldest_leaves_the_population(has_ageing: bool, gone: int) -> None:
    """Children differ from their parent in one choice, so that they tell who their parent can have been."""
    space = grid()
    best_worst_middling = [space.canonical({"a": n, "b": n, "c": n}) for n in (0, 4, 2)]  # all three choices differ
    search = AsynchronousEvolution(
        space,
        Pareto([Objective(name="error")]),
        num_evaluations=30,
        generator=np.random.default_rng(0),
        population_size=2,
        tournament_size=1,
        crossover_share=0.0,
        mutations=1.0,
        has_ageing=has_ageing,
        initial=best_worst_middling,
    )
    for _ in range(3):
        trial = search.ask()
        assert trial is not None
        search.tell(trial.trial_id, Evaluation(metrics=space.metrics(trial.architecture)))
    parents = []
    for _ in range(12):
        trial = search.ask()
        assert trial is not None
        differing = [sum(trial.architecture[name] != one[name] for name in "abc") for one in best_worst_middling]
        assert sorted(differing)[0] == 1 < sorted(differing)[1]
        parents.append(differing.index(1))
    assert set(parents) == {0, 1, 2} - {gone}
