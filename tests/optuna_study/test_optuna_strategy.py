"""Real Optuna samplers behind the contract of a strategy: duplicates, failures, constraints, storage, resuming."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cloudpickle
import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation, Pareto, Scalarised
from nasray.objectives import Constraint, Objective
from nasray.optuna_study import SAMPLERS, OptunaStrategy
from nasray.optuna_study.samplers import distribution
from nasray.pareto import front_indices
from nasray.spaces.cell import CellSpace
from nasray.spaces.tabular import TabularSpace

ERROR, COST = Objective(name="error"), Objective(name="cost")
BOTH = Pareto([ERROR, COST])
QUICK = ["nsga2", "nsga3", "tpe", "random"]


def table(size: int = 4) -> TabularSpace:
    rows = [(a, b, f"op{c}") for a in range(0, 8 * size, 8) for b in range(size) for c in range(size)]
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    operation = frame.c.str[2:].astype(int)
    frame["cost"] = frame.a / 8 + 2.0 * frame.b + operation
    frame["error"] = 1 / (1 + frame.a + frame.b * operation)
    frame["memory_bytes"] = 4.0 * frame.a + frame.b
    return TabularSpace(frame, architecture="a,b,c", metrics=["cost", "error", "memory_bytes"])


def strategy(seed: int = 0, formulation: Formulation = BOTH, num_evaluations: int = 40, **options) -> OptunaStrategy:
    space = options.pop("space", None) or table()
    if options.get("sampler", "nsga2") in ("nsga2", "nsga3"):
        options.setdefault("population_size", 8)
    generator = np.random.default_rng(seed)
    return OptunaStrategy(space, formulation, num_evaluations=num_evaluations, generator=generator, **options)


def evaluate(search: OptunaStrategy, architecture: Architecture) -> Evaluation:
    """Look up; every seventh network or so fails."""
    if int(architecture.arch_id, 16) % 7 == 0:
        return Evaluation(status="failed", reason="out of memory")
    return Evaluation(metrics=search.space.metrics(architecture), seconds=0.25)


def run(search: OptunaStrategy, steps: int | None = None, at_once: int = 4) -> list[Architecture]:
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


def states(study: optuna.Study) -> set[str]:
    return {trial.state.name for trial in study.trials}


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_each_sampler_asks_for_as_many_as_it_may_and_for_none_twice(sampler):
    search = strategy(sampler=sampler, num_evaluations=18)
    asked = run(search)
    assert len(asked) == len(set(asked)) == 18
    assert search.is_finished and search.ask() is None
    assert states(search.study) <= {"COMPLETE", "FAIL"}


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_same_seed_same_sequence(sampler):
    first, again, other = (run(strategy(seed, sampler=sampler, num_evaluations=16)) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_resuming_from_a_state_equals_never_having_stopped(sampler):
    def fresh(seed: int) -> OptunaStrategy:
        return strategy(seed, sampler=sampler, num_evaluations=22 if sampler == "gp" else 48)

    whole, first, second = fresh(0), fresh(0), fresh(99)
    for search in (whole, first):
        run(search, steps=14 if sampler == "gp" else 25)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert run(second) == run(whole)
    kept = [[(t.params, t.values, t.user_attrs, t.system_attrs) for t in s.study.trials] for s in (whole, second)]
    assert kept[0] == kept[1]


def test_a_state_with_candidates_out_waits_for_them():
    first, second = strategy(num_evaluations=30), strategy(num_evaluations=30)
    run(first, steps=12)
    out = [first.ask() for _ in range(3)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for search in (first, second):
        for trial in out:
            search.tell(trial.trial_id, evaluate(search, trial.architecture))
    assert run(second) == run(first)


def test_sampling_learns_from_what_is_told():
    """On a table of 1,000 networks NSGA-II finds more of the true front than random search does."""
    found = {}
    for sampler in ("nsga2", "random"):
        search = strategy(sampler=sampler, space=table(10), num_evaluations=200)
        space = search.space
        while trial := search.ask():
            search.tell(trial.trial_id, Evaluation(metrics=space.metrics(trial.architecture)))
        rows = np.stack([space.column("error"), space.column("cost")], axis=1)
        front = {tuple(rows[index]) for index in front_indices(rows)}
        found[sampler] = len(front & {tuple(trial.values) for trial in search.study.best_trials})
    assert found["nsga2"] > found["random"]


def test_failures_are_told_with_their_reason():
    search = strategy(num_evaluations=3)
    for evaluation in (
        Evaluation(status="failed", reason="out of memory", metrics={"error": float("nan"), "macs": 5.0}),
        Evaluation(status="infeasible", reason="does not fit the device", metrics={"error": 0.1, "cost": 1.0}),
        Evaluation(metrics={"error": 0.1, "cost": 1.0, "memory_bytes": 7.0}, seconds=2.0),
    ):
        search.tell(search.ask().trial_id, evaluation)
    failed, infeasible, good = search.study.trials
    assert failed.state == infeasible.state == TrialState.FAIL
    assert failed.user_attrs["reason"] == "out of memory"
    assert failed.user_attrs["macs"] == 5 and "error" not in failed.user_attrs
    assert infeasible.user_attrs["reason"] == "does not fit the device"
    assert infeasible.user_attrs["cost"] == 1
    assert good.values == [0.1, 1.0]
    assert good.user_attrs == {
        "arch_id": search.architecture("2").arch_id,
        "status": "ok",
        "evaluation_s": 2.0,
        "memory_bytes": 7.0,
    }


def test_tell_is_the_gate():
    search = strategy()
    trial = search.ask()
    with pytest.raises(ValueError, match="must be one that was asked, got '77'"):
        search.tell("77", Evaluation(metrics={"error": 1.0, "cost": 1.0}))
    with pytest.raises(ValueError, match=r"must have the metrics \['cost'\]"):
        search.tell(trial.trial_id, Evaluation(metrics={"error": 1.0}))
    with pytest.raises(ValueError, match="must be finite"):
        search.tell(trial.trial_id, Evaluation(metrics={"error": float("nan"), "cost": 1.0}))
    search.tell(trial.trial_id, Evaluation(status="failed", reason="loss not finite"))
    with pytest.raises(ValueError, match="told before"):
        search.tell(trial.trial_id, Evaluation(metrics={"error": 1.0, "cost": 1.0}))
    assert states(search.study) == {"FAIL"}


@pytest.mark.parametrize("sampler", QUICK)
def test_all_failures_are_survived(sampler):
    search = strategy(sampler=sampler)
    while trial := search.ask():
        search.tell(trial.trial_id, Evaluation(status="failed", reason="disk full"))
    assert search.is_finished
    assert states(search.study) == {"FAIL"}


def test_duplicates_are_answered_from_the_record():
    search = strategy(num_evaluations=60)
    asked = run(search, at_once=1)
    trials = search.study.trials
    duplicates = [trial for trial in trials if "duplicate_of" in trial.user_attrs]
    assert duplicates and len(trials) == len(asked) + len(duplicates)
    for trial in duplicates:
        first = trials[trial.user_attrs["duplicate_of"]]
        assert first.number < trial.number
        assert (first.state, first.values) == (trial.state, trial.values)
        assert first.user_attrs["arch_id"] == trial.user_attrs["arch_id"]


def test_a_duplicate_of_what_is_out_fails():
    search = strategy(sampler="random", space=table(2), num_evaluations=8)
    while search.ask():
        pass
    (reason,) = {trial.user_attrs["reason"] for trial in search.study.trials}
    assert reason == "this architecture is being evaluated"
    assert states(search.study) == {"FAIL"}


@pytest.mark.parametrize("sampler", QUICK)
def test_an_exhausted_space_ends_the_search(sampler):
    search = strategy(sampler=sampler, space=table(2), num_evaluations=100)
    asked = run(search)
    assert len(set(asked)) == len(asked) == 8
    assert search.is_finished


def test_spellings_of_one_network_are_one_architecture():
    """The cell space has 15,625 genomes of 5,260 networks; a trial keeps the spelling that was sampled."""
    space = CellSpace()
    search = strategy(space=space, num_evaluations=60)
    while trial := search.ask():
        cost = sum("conv" in str(value) for value in trial.architecture.choices.values())
        search.tell(trial.trial_id, Evaluation(metrics={"error": 1 / (1 + cost), "cost": float(cost)}))
    values = {}
    for trial in search.study.trials:
        assert space.canonical(trial.params).arch_id == trial.user_attrs["arch_id"]
        assert values.setdefault(trial.user_attrs["arch_id"], trial.values) == trial.values
    assert len(values) == 60
    assert any(space.canonical(trial.params).choices != trial.params for trial in search.study.trials)


def test_measured_constraints_reach_the_sampler():
    limits = [Constraint(metric="memory_bytes", limit=60.0), Constraint(metric="cost", limit=3.0, relation=">=")]
    search = strategy(formulation=Pareto([ERROR, COST], limits), num_evaluations=60)
    run(search)
    feasible = [search.formulation.violation(search.space.metrics(a)) == 0 for a in map(search.architecture, "0123")]
    assert len(feasible) == 4
    for trial in search.study.trials:
        if trial.state != TrialState.COMPLETE:
            continue
        cost, memory = trial.values[1], trial.user_attrs["memory_bytes"]
        assert trial.constraints == {"memory_bytes<=60": (memory - 60) / 60, "cost>=3": (3 - cost) / 3}
    best = search.study.best_trials
    assert best and all(t.values[1] >= 3 and t.user_attrs["memory_bytes"] <= 60 for t in best)


def test_a_candidate_that_breaks_a_limit_is_complete_so_that_the_sampler_learns():
    search = strategy(formulation=Pareto([ERROR], [Constraint(metric="cost", limit=1.0)]))
    told = Evaluation(status="infeasible", reason="cost<=1", metrics={"error": 0.5, "cost": 3.0})
    search.tell(search.ask().trial_id, told)
    (trial,) = search.study.trials
    assert trial.state == TrialState.COMPLETE and trial.constraints == {"cost<=1": 2.0}


def test_directions_and_names_stand_in_the_study():
    formulation = Pareto([Objective(name="accuracy", direction="maximize"), COST, Objective(name="memory_bytes")])
    study = strategy(formulation=formulation).study
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    assert study.metric_names == ["accuracy", "cost", "memory_bytes"]


def test_a_warm_start_comes_first_and_joins_the_population():
    space = table()
    initial = [space.architectures[index] for index in (5, 9, 5, 33)]
    search = strategy(space=space, initial=initial, num_evaluations=12)
    asked = run(search, at_once=1)
    assert asked[:3] == [space.architectures[index] for index in (5, 9, 33)]
    assert len(set(asked)) == 12
    assert all(trial.system_attrs["NSGAIISampler:generation"] == 0 for trial in search.study.trials[:8])


def kinds_of_storage(folder: Path) -> dict[str, str]:
    return {"journal": str(folder / "optuna.log"), "sqlite": f"sqlite:///{folder / 'optuna.db'}"}


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_study_on_disk_is_continued(kind, tmp_path):
    storage = kinds_of_storage(tmp_path)[kind]
    first = strategy(storage=storage, num_evaluations=20)
    asked = run(first, steps=12)
    lost = first.ask().architecture
    first.close()
    second = strategy(storage=storage, num_evaluations=20)
    assert second.study.trials == first.study.trials
    assert all(second.result(architecture) == first.result(architecture) for architecture in asked)
    rest = run(second)
    assert len(rest) == 20 - len(asked) and not set(rest) & set(asked)
    assert second.is_finished and second.result(lost) == (evaluate(second, lost) if lost in rest else None)
    second.close()
    third = strategy(storage=storage, num_evaluations=20)
    assert third.is_finished and third.ask() is None
    assert states(third.study) <= {"COMPLETE", "FAIL"}
    third.close()


def test_the_random_sampler_goes_on_where_it_was(tmp_path):
    storage = kinds_of_storage(tmp_path)["journal"]
    asked = run(strategy(sampler="random", storage=storage, num_evaluations=16, space=table(10)))
    second = strategy(sampler="random", storage=storage, num_evaluations=32, space=table(10))
    assert not set(run(second)) & set(asked)
    assert second.num_proposed < 20


KILLED = """
import os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import test_optuna_strategy as here
search = here.strategy(storage=sys.argv[2], num_evaluations=40)
here.run(search, steps=15)
search.ask()
os.kill(os.getpid(), 9)
"""


def test_a_killed_process_leaves_a_study_that_goes_on(tmp_path):
    storage = tmp_path / "optuna.log"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", KILLED, __file__, str(storage)]
    assert subprocess.run(command, env=environment, check=False).returncode == -9
    with storage.open("ab") as file:
        file.write(b'{"op_code":4,"worker')  # torn by the kill
    search = strategy(storage=storage)
    assert len(search.study.trials) >= 15
    assert search.study.trials[0].system_attrs["NSGAIISampler:generation"] == 0
    asked = run(search)
    assert len(asked) == 40 - 15
    assert states(search.study) <= {"COMPLETE", "FAIL"}
    # Optuna can still read the whole file, as optuna-dashboard does.
    backend = optuna.storages.journal.JournalFileBackend(str(storage))
    other = optuna.load_study(study_name="nasray", storage=optuna.storages.JournalStorage(backend))
    assert other.trials == search.study.trials


def test_trials_that_another_program_left_running_are_closed(tmp_path):
    storage = kinds_of_storage(tmp_path)["journal"]
    search = strategy(storage=storage)
    run(search, steps=4)
    search.study.ask(search._distributions)
    again = strategy(storage=storage)
    last = again.study.trials[-1]
    assert last.state == TrialState.FAIL
    assert last.user_attrs["reason"] == "left running by a process that ended"
    assert states(again.study) <= {"COMPLETE", "FAIL"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"formulation": Pareto([ERROR])}, r"have the directions \['minimize'\], got 'nasray' with \['minimize', 'min"),
        ({"formulation": Pareto([COST, ERROR])}, "have the objectives"),
        ({"formulation": Pareto([ERROR, COST], [Constraint(metric="cost", limit=2.0)])}, "have the constraints"),
        ({"space": table(3)}, "have the choices of this space, got 'nasray' with another a, b, c"),
    ],
)
def test_a_study_of_another_search_is_refused(options, sentence, tmp_path):
    storage = kinds_of_storage(tmp_path)["journal"]
    run(strategy(storage=storage), steps=4)
    with pytest.raises(ValueError, match=sentence):
        strategy(storage=storage, **options)


def test_a_state_wins_over_what_the_study_on_disk_learned_since(tmp_path):
    storage = kinds_of_storage(tmp_path)["journal"]
    first = strategy(storage=storage)
    run(first, steps=10, at_once=1)
    state = json.loads(json.dumps(first.state_dict()))
    asked = run(first, at_once=1)
    second = strategy(storage=storage)
    before = len(second.study.trials)
    second.load_state_dict(state)
    assert len(second.study.trials) == before
    assert run(second, at_once=1) == asked


def test_a_state_fills_an_empty_study(tmp_path):
    first = strategy()
    run(first, steps=10)
    second = strategy(storage=kinds_of_storage(tmp_path)["journal"])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [t.values for t in second.study.trials] == [t.values for t in first.study.trials]


@pytest.mark.parametrize("sampler", QUICK)
def test_a_strategy_can_be_pickled(sampler):
    search = strategy(sampler=sampler)
    run(search, steps=10)
    copy = cloudpickle.loads(cloudpickle.dumps(search))
    assert run(copy) == run(search)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sampler": "cmaes"}, "`sampler` must be one of nsga2, nsga3, tpe, gp, random, got 'cmaes'"),
        ({"sampler": "tpe", "population_size": 8}, "`population_size` must be left out for 'tpe'"),
        ({"population_size": 1}, "`population_size` must be at least 2, got 1"),
        ({"num_evaluations": 0}, "`num_evaluations` must be at least 1, got 0"),
        ({"formulation": Scalarised([ERROR, COST], [[1, 1]])}, "must be Pareto, got Scalarised"),
        ({"storage": "/does/not/exist/optuna.log"}, "`storage` must be a file in a folder that exists"),
        ({"storage": "sqlite:////does/not/exist/optuna.db"}, "`storage` must be a database that can be opened"),
        ({"storage": "nodb://x"}, "`storage` must be a database that can be opened"),
        ({"initial": [Architecture.of("elsewhere", {"a": 1})]}, "must belong to space"),
    ],
)
def test_wrong_settings_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        strategy(**options)


def test_evenly_spaced_numbers_keep_their_order():
    assert distribution((0, 8, 16)) == IntDistribution(0, 16, step=8)
    for options in ((3,), (3, 2, 1), (1, 2, 4), (False, True), (0.5, 1.0), ("none", "conv"), (1, 2, "max")):
        assert distribution(options) == CategoricalDistribution(options)
