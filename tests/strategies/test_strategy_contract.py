"""What every strategy over single evaluations must do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation, Pareto, Scalarised, TwoStage
from nasray.objectives import Constraint, Objective
from nasray.optuna_study import OptunaStrategy
from nasray.spaces.tabular import TabularSpace
from nasray.strategies.candidate_search import CandidateSearch
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.strategies.random_search import RandomSearch
from nasray.strategies.surrogate import SurrogateSearch

ERROR, COST = Objective(name="error"), Objective(name="cost")
FORMULATIONS: dict[str, Formulation] = {
    "pareto": Pareto([ERROR, COST]),
    "constrained": Pareto([ERROR], [Constraint(metric="cost", limit=9.0)]),
    "weighted sum": Scalarised([ERROR, COST], [[1, 0], [1, 1], [0, 1]], how="weighted_sum"),
    "chebyshev": Scalarised([ERROR, COST], [[1, 1], [2, 1]]),
    "two-stage": TwoStage([ERROR, COST], tolerance=0.05),
}
Make = Callable[..., CandidateSearch]


def table(size: int = 4) -> TabularSpace:
    rows = [(a, b, c) for a in range(size) for b in range(size) for c in range(size)]
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    frame["cost"] = frame.a + 2.0 * frame.b + frame.c
    frame["error"] = 1 / (1 + frame.a + frame.b * frame.c)
    return TabularSpace(frame, architecture="a,b,c", metrics=["cost", "error"])


def random(space: TabularSpace, **options: object) -> CandidateSearch:
    return RandomSearch(space, **options)  # type: ignore[arg-type]


def evolution(space: TabularSpace, **options: object) -> CandidateSearch:
    return AsynchronousEvolution(space, population_size=8, **options)  # type: ignore[arg-type]


def ageing(space: TabularSpace, **options: object) -> CandidateSearch:
    return AsynchronousEvolution(space, population_size=8, has_ageing=True, **options)  # type: ignore[arg-type]


def surrogate(space: TabularSpace, **options: object) -> CandidateSearch:
    def known(architecture: Architecture) -> dict[str, float]:
        return {"cost": space.metrics(architecture)["cost"]}

    return SurrogateSearch(space, known=known, num_initial=8, **options)  # type: ignore[arg-type]


def optuna(sampler: str) -> Make:
    def make(space: TabularSpace, **options: object) -> CandidateSearch:
        return OptunaStrategy(space, sampler=sampler, population_size=8, **options)  # type: ignore[arg-type]

    return make


MAKERS: dict[str, Make] = {
    "optuna nsga2": optuna("nsga2"),
    "optuna nsga3": optuna("nsga3"),
    "random": random,
    "evolution": evolution,
    "ageing evolution": ageing,
    "surrogate": surrogate,
}
ONLY_PARETO = {"surrogate", "optuna nsga2", "optuna nsga3"}


@pytest.fixture(params=sorted(MAKERS))
def make(request: pytest.FixtureRequest) -> Make:
    maker = MAKERS[request.param]

    def build(
        seed: int = 0, formulation: str = "pareto", num_evaluations: int = 40, **options: object
    ) -> CandidateSearch:
        if request.param in ONLY_PARETO and not isinstance(FORMULATIONS[formulation], Pareto):
            pytest.skip("takes Pareto formulations only")
        return maker(
            options.pop("space", None) or table(),
            formulation=FORMULATIONS[formulation],
            num_evaluations=num_evaluations,
            generator=np.random.default_rng(seed),
            **options,
        )

    return build


def evaluate(search: CandidateSearch, architecture: Architecture) -> Evaluation:
    """Look up; every fifth network or so fails."""
    if int(architecture.arch_id, 16) % 5 == 0:
        return Evaluation(status="failed", reason="out of memory")
    assert isinstance(search.space, TabularSpace)
    return Evaluation(metrics=search.space.metrics(architecture))


def run(search: CandidateSearch, steps: int | None = None, at_once: int = 4) -> list[Architecture]:
    """Ask and tell with several candidates out, the last one asked told first."""
    out, asked = [], []
    while not search.is_finished and (steps is None or len(asked) < steps):
        while len(out) < at_once and (trial := search.ask()):
            out.append(trial)
            asked.append(trial.architecture)
        if not out:
            break
        trial = out.pop()
        search.tell(trial.trial_id, evaluate(search, trial.architecture))
    for trial in out:
        search.tell(trial.trial_id, evaluate(search, trial.architecture))
    return asked


@pytest.mark.parametrize("formulation", sorted(FORMULATIONS))
def test_asks_for_as_many_as_it_may_and_for_none_twice(make: Make, formulation: str) -> None:
    search = make(formulation=formulation)
    asked = run(search)
    assert len(asked) == len(set(asked)) == 40
    assert search.is_finished
    assert search.ask() is None


def test_same_seed_same_sequence(make: Make) -> None:
    assert run(make(seed=3)) == run(make(seed=3))
    assert run(make(seed=3)) != run(make(seed=4))


@pytest.mark.parametrize("formulation", sorted(FORMULATIONS))
def test_resuming_equals_never_having_stopped(make: Make, formulation: str) -> None:
    whole, first = make(formulation=formulation), make(formulation=formulation)
    for search in (whole, first):
        run(search, steps=23)
    second = make(seed=99, formulation=formulation)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert run(second) == run(whole)


def test_a_state_with_candidates_out_waits_for_them(make: Make) -> None:
    first, second = make(), make()
    out = [first.ask() for _ in range(3)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for trial in out:
        assert trial is not None
        second.tell(trial.trial_id, evaluate(second, trial.architecture))
    with pytest.raises(ValueError, match="told before"):
        second.tell("0", Evaluation(metrics={"error": 1.0, "cost": 1.0}))


def test_tell_is_the_gate(make: Make) -> None:
    search = make()
    trial = search.ask()
    assert trial is not None
    with pytest.raises(ValueError, match="must be one that was asked, got '77'"):
        search.tell("77", Evaluation(metrics={"error": 1.0, "cost": 1.0}))
    with pytest.raises(ValueError, match=r"must have the metrics \['cost'\]"):
        search.tell(trial.trial_id, Evaluation(metrics={"error": 1.0}))
    with pytest.raises(ValueError, match="must be finite"):
        search.tell(trial.trial_id, Evaluation(metrics={"error": math.nan, "cost": 1.0}))
    search.tell(trial.trial_id, Evaluation(status="failed", reason="hung"))
    with pytest.raises(ValueError, match="told before"):
        search.tell(trial.trial_id, Evaluation(metrics={"error": 1.0, "cost": 1.0}))


def test_a_candidate_that_never_returns_stalls_nobody(make: Make) -> None:
    search = make()
    lost = search.ask()
    assert lost is not None
    asked = run(search)
    assert len(asked) == 39
    assert not search.is_finished


def test_all_failures_are_survived(make: Make) -> None:
    search = make()
    while trial := search.ask():
        search.tell(trial.trial_id, Evaluation(status="failed", reason="disk full"))
    assert search.is_finished


def test_an_infeasible_evaluation_without_all_figures_teaches_nothing(make: Make) -> None:
    search = make()
    for _ in range(30):
        trial = search.ask()
        assert trial is not None
        metrics = {"error": math.nan, "cost": 1.0} if int(trial.trial_id) % 2 else {"cost": 1.0}
        search.tell(trial.trial_id, Evaluation(status="infeasible", reason="does not fit", metrics=metrics))
    assert search.ask() is not None


def test_a_warm_start_comes_first(make: Make) -> None:
    space = table()
    initial = [space.architectures[index] for index in (5, 9, 5, 33)]
    asked = run(make(space=space, initial=initial), at_once=1)
    assert asked[:3] == [space.architectures[index] for index in (5, 9, 33)]
    assert len(set(asked)) == 40


def test_a_warm_start_of_another_space_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="must belong to space"):
        make(initial=[Architecture.of("elsewhere", {"a": 1})])


def test_an_exhausted_space_ends_the_search(make: Make) -> None:
    search = make(space=table(2), num_evaluations=100)
    asked = run(search)
    assert len(set(asked)) == len(asked) == 8
    assert search.is_finished


def test_every_row_of_a_sparse_table_is_found(make: Make) -> None:
    generator = np.random.default_rng(5)
    frame = pd.DataFrame(generator.integers(10, size=(30, 3)), columns=["a", "b", "c"]).drop_duplicates()
    frame["cost"], frame["error"] = generator.random((2, len(frame)))
    space = TabularSpace(frame, architecture="a,b,c", metrics=["cost", "error"])
    search = make(space=space, num_evaluations=100)
    asked = set()
    while trial := search.ask():
        asked.add(trial.architecture)
        search.tell(trial.trial_id, Evaluation(metrics=space.metrics(trial.architecture)))
    assert asked == set(space.architectures)


def test_numbers_out_of_range_are_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="`num_evaluations` must be at least 1, got 0"):
        make(num_evaluations=0)
