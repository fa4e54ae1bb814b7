"""A search that is made to be killed: deterministic, over a small table, continued whenever its folder has a run."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.optuna_study import OptunaStrategy
from nasray.records import RunDirectory
from nasray.spaces.tabular import TabularSpace
from nasray.strategies.candidate_search import CandidateSearch
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.strategies.random_search import RandomSearch
from nasray.strategies.surrogate import SurrogateSearch
from nasray.tune.batch_search import search_in_batches
from nasray.tune.progress import StageProgress

STRATEGIES = ("evolution", "surrogate", "nsga2", "random")
WANTED = Pareto([Objective(name="error"), Objective(name="cost")])
STUDY = "optuna.log"
_SHORTEST_S, _SPREAD_S = 0.005, 0.03
"""How long an evaluation takes: at least, and how much longer at most."""


def make_space(options: int) -> TabularSpace:
    """Return a space of four choices with so many options each; its figures follow no pattern but the sum's."""
    rows = list(itertools.product(range(options), repeat=4))
    frame = pd.DataFrame(rows, columns=list("abcd"))
    noise_N = np.random.default_rng(options).random(len(frame))
    frame["cost"] = frame.sum(axis=1) + noise_N
    frame["error"] = 1 / (1 + frame.a + frame.b * frame.c) + 0.1 * noise_N[::-1]
    return TabularSpace(frame, architecture="a,b,c,d", metrics=["cost", "error"])


def make_strategy(
    name: str, space: TabularSpace, *, evaluations: int, seed: int, folder: Path | None
) -> CandidateSearch:
    """Return a strategy; Optuna's study is kept in the folder.

    Raises:
        ValueError: If there is none of this name.
    """
    generator = np.random.default_rng(seed)
    if name == "evolution":
        return AsynchronousEvolution(space, WANTED, num_evaluations=evaluations, generator=generator)
    if name == "random":
        return RandomSearch(space, WANTED, num_evaluations=evaluations, generator=generator)
    if name == "surrogate":

        def known(architecture: Architecture) -> dict[str, float]:
            return {"cost": space.metrics(architecture)["cost"]}

        return SurrogateSearch(space, WANTED, known=known, num_evaluations=evaluations, generator=generator)
    if name == "nsga2":
        storage = None if folder is None else folder / STUDY
        return OptunaStrategy(space, WANTED, num_evaluations=evaluations, generator=generator, storage=storage)
    raise ValueError(f"`strategy` must be one of {', '.join(STRATEGIES)}, got {name!r}.")


def look_up(space: TabularSpace) -> Callable[[Architecture], Evaluation]:
    """Return an evaluator that takes some milliseconds, always as long for the same architecture."""

    def evaluate(architecture: Architecture) -> Evaluation:
        time.sleep(_SHORTEST_S + _SPREAD_S * int(architecture.arch_id[:4], 16) / 0xFFFF)
        return Evaluation(metrics=space.metrics(architecture))

    return evaluate


def open_run(folder: Path, name: str, seed: int) -> RunDirectory:
    """Begin a run, or go on with the one that is there."""
    return RunDirectory.create(
        folder,
        method=name,
        preset="kills",
        configuration={},
        seed=seed,
        data={},
        resume=(folder / "run.json").exists(),
    )


def search(folder: Path, name: str, *, options: int, evaluations: int, seed: int, workers: int, on_ray: bool) -> None:
    """Search, or go on with it, until it is finished, and write the front."""
    run, space = open_run(folder, name, seed), make_space(options)
    strategy = make_strategy(name, space, evaluations=evaluations, seed=seed, folder=folder)
    if on_ray:
        from nasray.tune.candidate_search_run import run_search
        from nasray.tune.session import ClusterConfig, ray_session
        from nasray.tune.workers import Workers

        with ray_session(ClusterConfig(num_cpus=workers)):
            each = Workers(count=workers, cpus=1, gpus=0)
            run_search(strategy, partial(look_up, space), workers=each, run=run, max_retries=1000)
    else:
        one = look_up(space)
        progress = StageProgress(Console(), is_quiet=True)
        search_in_batches(strategy, lambda some: [one(a) for a in some], run=run, progress=progress, batch_size=workers)
    run.write_front([objective.to_json() for objective in WANTED.objectives])
    run.update(status="done")
    run.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Search on Ray as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", choices=STRATEGIES)
    for number in ("options", "evaluations", "seed", "workers"):
        parser.add_argument(f"--{number}", type=int, required=True)
    given = vars(parser.parse_args(arguments))
    search(given.pop("folder"), given.pop("name"), on_ray=True, **given)


if __name__ == "__main__":
    main()
