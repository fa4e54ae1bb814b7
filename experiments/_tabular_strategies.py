"""What `benchmark_tabular.py` compares: nasray's strategies, and other libraries' used plainly."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.spaces.tabular import TabularSpace
from nasray.strategies.candidate_search import CandidateSearch
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.strategies.random_search import RandomSearch
from nasray.strategies.surrogate import SurrogateSearch

POPULATION = 50


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A table, what to optimise, and which objectives are known before training.

    Args:
        space: The table.
        formulation: Objectives.
        known: Names of objectives that a platform computes or measures without training.
    """

    space: TabularSpace
    formulation: Pareto
    known: tuple[str, ...]

    def values(self, row: int) -> np.ndarray:
        """Return the objectives of a row, to be minimised."""
        return np.array([o.sign * self.space.column(o.name)[row] for o in self.formulation.objectives])

    def row(self, choices: dict[str, Any]) -> int:
        """Return the row of a combination, or the nearest one."""
        return self.space.index(self.space.canonical(choices))


@dataclass(frozen=True)
class Search:
    """The rows that a strategy asked for, in order, and the seconds that the strategy itself took."""

    rows: list[int]
    seconds: float


def run(name: str, problem: Problem, *, seed: int, evaluations: int) -> Search:
    """Let a strategy evaluate so many rows; one after the other."""
    rows: list[int] = []
    seconds, start = 0.0, time.perf_counter()
    steps = STRATEGIES[name](problem, seed, evaluations)
    for row in steps:
        seconds += time.perf_counter() - start
        rows.append(row)
        if len(rows) == evaluations:
            break
        start = time.perf_counter()
    return Search(rows, seconds)


def run_on_ray(name: str, problem: Problem, *, seed: int, evaluations: int) -> Search:
    """Let one of nasray's strategies evaluate so many rows, each look-up a trial of Ray Tune.

    Raises:
        ValueError: If the strategy is another library's.
    """
    from nasray.records import RunDirectory
    from nasray.tune.candidate_search_run import run_search
    from nasray.tune.workers import Workers

    if name not in OURS:
        raise ValueError(f"--ray runs {', '.join(OURS)}, got {name}. Leave others out with --strategies.")
    strategy = OURS[name](problem, {"num_evaluations": evaluations, "generator": np.random.default_rng(seed)})
    rows: list[int] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory.create(
            Path(folder) / "run", method=name, preset="table", configuration={}, seed=seed, data={}, resume=False
        )
        run_search(
            strategy,
            partial(_look_up, problem.space),
            workers=Workers.available(),
            run=run,
            on_evaluation=lambda trial, _: rows.append(problem.space.index(trial.architecture)),
        )
    return Search(rows, time.perf_counter() - start)


def _look_up(space: TabularSpace) -> Callable[[Architecture], Evaluation]:
    return lambda architecture: Evaluation(metrics=space.metrics(architecture))


def _ours(make: Callable[[Problem, dict[str, Any]], CandidateSearch]) -> Callable[[Problem, int, int], Iterator[int]]:
    def steps(problem: Problem, seed: int, evaluations: int) -> Iterator[int]:
        options = {"num_evaluations": evaluations, "generator": np.random.default_rng(seed)}
        search = make(problem, options)
        while trial := search.ask():
            yield problem.space.index(trial.architecture)
            search.tell(trial.trial_id, Evaluation(metrics=problem.space.metrics(trial.architecture)))

    return steps


def _random(problem: Problem, options: dict[str, Any]) -> CandidateSearch:
    return RandomSearch(problem.space, problem.formulation, **options)


def _evolution(problem: Problem, options: dict[str, Any]) -> CandidateSearch:
    return AsynchronousEvolution(problem.space, problem.formulation, **options)


def _surrogate(problem: Problem, options: dict[str, Any]) -> CandidateSearch:
    def known(architecture: Architecture) -> dict[str, float]:
        metrics = problem.space.metrics(architecture)
        return {name: metrics[name] for name in problem.known}

    return SurrogateSearch(problem.space, problem.formulation, known=known, **options)


def _optuna(sampler: str) -> Callable[[Problem, int, int], Iterator[int]]:
    def steps(problem: Problem, seed: int, evaluations: int) -> Iterator[int]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if sampler == "tpe":
            chosen: optuna.samplers.BaseSampler = optuna.samplers.TPESampler(seed=seed)
        else:
            chosen = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
        directions = [objective.direction for objective in problem.formulation.objectives]
        study = optuna.create_study(directions=directions, sampler=chosen)
        options = problem.space.choices.items()
        distributions: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.CategoricalDistribution(values) for name, values in options
        }
        signs = [objective.sign for objective in problem.formulation.objectives]
        while True:
            trial = study.ask(distributions)
            row = problem.row(trial.params)
            yield row
            study.tell(trial, (problem.values(row) * signs).tolist())

    return steps


def _pymoo(problem: Problem, seed: int, evaluations: int) -> Iterator[int]:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    choices = problem.space.choices
    last = np.array([len(options) - 1 for options in choices.values()])
    table = PymooProblem(
        n_var=len(last), n_obj=len(problem.formulation.objectives), xl=np.zeros_like(last), xu=last, vtype=int
    )
    rounded = RoundingRepair()
    algorithm = NSGA2(
        pop_size=POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=SBX(vtype=float, repair=rounded),
        mutation=PM(vtype=float, repair=rounded),
    )
    algorithm.setup(table, termination=("n_gen", 10**9), seed=seed, verbose=False)
    while True:
        population = algorithm.ask()
        if len(population) == 0:
            return
        values = []
        for codes in population.get("X"):
            row = problem.row({name: choices[name][int(code)] for name, code in zip(choices, codes, strict=True)})
            yield row
            values.append(problem.values(row))
        population.set("F", np.array(values))
        algorithm.tell(infills=population)


OURS = {"surrogate": _surrogate, "evolution": _evolution, "random": _random}
STRATEGIES: dict[str, Callable[[Problem, int, int], Iterator[int]]] = {
    **{name: _ours(make) for name, make in OURS.items()},
    "optuna-nsga2": _optuna("nsga2"),
    "optuna-tpe": _optuna("tpe"),
    "pymoo-nsga2": _pymoo,
}
