"""Time what strategies themselves take: so many asks and tells on MENNDL's chains, with made-up accuracies.

The baseline is random search. Parameters and multiply-adds are known before an evaluation and are not timed; the
accuracy grows with the logarithm of the parameters, with noise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
from _benchmark import Parser, at_least, write_json

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.spaces.chain import ChainSpace
from nasray.strategies.candidate_search import CandidateSearch
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.strategies.random_search import RandomSearch
from nasray.strategies.surrogate import SurrogateSearch

SPACE = ChainSpace(num_classes=10, in_channels=1, resolution=8)
WANTED = Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="parameters")])
GOAL_MS = 1.0


def parameters(architecture: Architecture) -> dict[str, float] | None:
    """Return the parameters of a chain; None where it cannot be built."""
    plan = SPACE.plan(architecture)
    return {"parameters": float(plan.parameters)} if plan.is_feasible else None


def strategies(asks: int) -> dict[str, Callable[[], CandidateSearch]]:
    """Return the strategies by name."""

    def options() -> dict[str, object]:
        return {"num_evaluations": asks, "generator": np.random.default_rng(0)}

    return {
        "random": lambda: RandomSearch(SPACE, WANTED, **options()),  # type: ignore[arg-type]
        "evolution": lambda: AsynchronousEvolution(SPACE, WANTED, **options()),  # type: ignore[arg-type]
        "surrogate": lambda: SurrogateSearch(SPACE, WANTED, known=parameters, **options()),  # type: ignore[arg-type]
    }


def milliseconds(search: CandidateSearch, asks: int) -> float:
    """Return the mean time of an ask and its tell."""
    generator, seconds = np.random.default_rng(1), 0.0
    for _ in range(asks):
        start = time.perf_counter()
        trial = search.ask()
        seconds += time.perf_counter() - start
        assert trial is not None
        known = parameters(trial.architecture)
        noise = generator.normal(scale=0.02)
        if known is None:
            evaluation = Evaluation(status="infeasible", reason="too large")
        else:
            accuracy = 1 - 1 / math.log(known["parameters"] + 3) + noise
            evaluation = Evaluation(metrics={**known, "accuracy": accuracy})
        start = time.perf_counter()
        search.tell(trial.trial_id, evaluation)
        seconds += time.perf_counter() - start
    return 1e3 * seconds / asks


def main() -> None:
    """Time every strategy."""
    parser = Parser(__doc__)
    parser.add_argument("--asks", type=at_least(1), default=100_000, help="candidates")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    for name, make in strategies(arguments.asks).items():
        figures[name] = milliseconds(make(), arguments.asks)
        outcome = "met" if figures[name] <= GOAL_MS else "missed"
        ratio = figures[name] / figures["random"]
        print(
            f"{name:10} {figures[name]:.3f} ms an ask and tell, {ratio:.1f}x random (goal: {GOAL_MS:g} ms, {outcome})"
        )
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
