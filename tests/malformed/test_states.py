"""Saved searches: a state that is taken is the state that goes on."""

import json

import numpy as np
import pandas as pd
import pytest
from contract import check
from damage import at, json_values, paths

from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.optuna_study import OptunaStrategy
from nasray.reading import parse_json
from nasray.spaces.mobile_networks import mobile_space
from nasray.spaces.tabular import TabularSpace
from nasray.strategies.coordinate_descent import CoordinateDescent, CoordinateDescentConfig
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.strategies.random_at_cost import RandomAtCost
from nasray.strategies.surrogate import SurrogateSearch

WANTED = Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="macs")])
MOBILE = mobile_space("mobile-8", num_classes=10, in_channels=1, resolution=8)
TABLE = TabularSpace(
    pd.DataFrame(
        {"arch": [f"{n}|{n % 3}" for n in range(20)], "macs": np.arange(1.0, 21), "accuracy": np.linspace(0, 1, 20)}
    ),
    architecture="arch",
)


def macs(architecture):
    return float(MOBILE.plan(architecture).macs)


def generator():
    return np.random.default_rng(0)


STRATEGIES = {
    "evolution": lambda: AsynchronousEvolution(
        TABLE, WANTED, num_evaluations=15, generator=generator(), population_size=4, tournament_size=2
    ),
    "optuna": lambda: OptunaStrategy(TABLE, WANTED, num_evaluations=15, generator=generator(), population_size=4),
    "surrogate": lambda: SurrogateSearch(
        TABLE,
        WANTED,
        known=lambda a: {"macs": TABLE.metrics(a)["macs"]},
        num_evaluations=15,
        generator=generator(),
        num_initial=4,
    ),
    "coordinate descent": lambda: CoordinateDescent(
        MOBILE,
        macs,
        CoordinateDescentConfig(target=0.5 * macs(MOBILE.largest()), num_samples=3, num_layers=2),
        generator(),
    ),
    "random at cost": lambda: RandomAtCost(MOBILE, macs, target=1e5, num_samples=4, generator=generator()),
}


def told(strategy, count):
    for _ in range(count):
        trial = strategy.ask()
        number = int(trial.architecture.arch_id, 16)
        strategy.tell(trial.trial_id, Evaluation(metrics={"accuracy": number % 97 / 97, "macs": number % 89 + 1.0}))
    strategy.ask()
    return json.loads(json.dumps(strategy.state_dict()))


def differences(state, case):
    """Return the parts of a case that the state does not have, but for parts that no state has."""
    known = {name: part for name, part in case.items() if name in state}
    return [place for place in paths(known) if leaf(state, place) != leaf(known, place)]


def leaf(value, path):
    """Return a part in a form that compares: numbers that are no whole ones in both by their nearest float."""
    try:
        found = at(value, path)
    except (KeyError, IndexError, TypeError):
        return "absent"
    if isinstance(found, dict | list):
        return type(found).__name__
    is_exact = isinstance(found, bool | str) or found is None or path[0] == "generator"
    return found if is_exact else float(found)


@pytest.mark.parametrize("name", STRATEGIES)
def test_states(name):
    state = told(STRATEGIES[name](), 2 if name in ("coordinate descent", "random at cost") else 7)

    def parse(case):
        strategy = STRATEGIES[name]()
        try:
            state = parse_json(json.dumps(case))
        except ValueError as error:  # as whoever reads the file says
            raise ValueError(f"The file must hold a state, got another ({error}).") from error
        strategy.load_state_dict(state)
        return strategy

    def accept(found, case):
        gone_on = json.loads(json.dumps(found.state_dict()))
        if name == "optuna":  # the study on disk may have fewer trials than the state, never more of it
            assert gone_on.pop("num_recorded") <= case["num_recorded"]
        assert not differences(gone_on, json.loads(json.dumps(case)))
        if name != "optuna":  # what its samplers keep for themselves is theirs to read
            found.ask()

    cases = json_values(state).filter(lambda case: isinstance(case, dict))
    check(f"state of {name}", cases, parse, examples=150, accept=accept)
