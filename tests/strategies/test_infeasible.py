"""Candidates that cannot be had, for a reason that no constraint tells, must not look like good ones."""

import numpy as np

from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Constraint, Objective
from nasray.spaces.cell import CellSpace
from nasray.strategies.evolution import AsynchronousEvolution

OBJECTIVES = Pareto([Objective(name="macs")], [Constraint(metric="macs", limit=10.0)])


def evolution():
    generator = np.random.default_rng(0)
    return AsynchronousEvolution(CellSpace(), OBJECTIVES, num_evaluations=40, generator=generator, population_size=5)


def test_only_what_a_constraint_tells_is_learned_of_infeasible_candidates():
    search = evolution()
    memory = Evaluation(status="infeasible", reason="out of memory: 2 GiB", metrics={"macs": 1.0})
    broken = Evaluation(status="infeasible", reason="too many MACs", metrics={"macs": 11.0})
    bare = Evaluation(status="infeasible", reason="out of memory: 2 GiB")
    asked = [search.ask() for _ in range(4)]
    for trial, evaluation in zip(asked, (memory, broken, bare, Evaluation(metrics={"macs": 9.0})), strict=True):
        search.tell(trial.trial_id, evaluation)
    learned = [candidate.trial_id for candidate in search._population]
    assert learned == [asked[1].trial_id, asked[3].trial_id]
    again = evolution()
    again.load_state_dict(search.state_dict())
    assert [candidate.trial_id for candidate in again._population] == learned
    assert [again.result(trial.architecture).status for trial in asked] == ["infeasible"] * 3 + ["ok"]
