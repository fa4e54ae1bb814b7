"""Strategies by the names that people give."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nasray.architecture import Architecture
from nasray.carbon.bill import duration
from nasray.data import ImageData
from nasray.formulations import Pareto
from nasray.models.build import NetworkSpace
from nasray.optuna_study import OptunaStrategy
from nasray.optuna_study.samplers import SAMPLERS
from nasray.spaces.chain import ChainSpace
from nasray.spaces.space import SearchSpace
from nasray.strategies.candidate_pool import SAMPLED, KnownMetrics
from nasray.strategies.candidate_search import ENUMERATED, CandidateSearch
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.strategies.random_search import RandomSearch
from nasray.strategies.surrogate import SurrogateSearch
from nasray.training.network_evaluation import size_metrics

OURS = ("evolution", "surrogate", "random")
STRATEGIES = tuple(dict.fromkeys((*OURS, *SAMPLERS)))
"""nasray's own, and Optuna's samplers."""

_PATIENCE_S = 3.0


def strategy_by_name(
    name: str,
    space: SearchSpace,
    formulation: Pareto,
    data: ImageData | None,
    known: KnownMetrics | None,
    *,
    num_evaluations: int,
    seed: int,
    initial: Sequence[Architecture],
    say: Callable[[str], None],
) -> CandidateSearch:
    """Make a strategy.

    Args:
        name: One of `STRATEGIES`.
        space: What to search.
        formulation: What is wanted.
        data: Images that candidates are trained on, if they are.
        known: For "surrogate": metrics that need no evaluation; None for the sizes of networks.
        num_evaluations: Candidates.
        seed: Of the search.
        initial: Architectures to evaluate first.
        say: Told of work that takes long.

    Raises:
        ValueError: If there is no such strategy, or arguments do not fit it.
    """
    if known is not None and name != "surrogate":
        raise ValueError(f"`known` must be left out with the strategy {name}, which has no use for it.")
    generator = np.random.default_rng(seed)
    options: dict[str, Any] = {"num_evaluations": num_evaluations, "generator": generator, "initial": initial}
    match name:
        case "evolution":
            return AsynchronousEvolution(space, formulation, **options)
        case "random":
            return RandomSearch(space, formulation, **options)
        case "surrogate" if known is not None:
            return SurrogateSearch(space, formulation, known=known, **options)
        case "surrogate":
            if data is None or not isinstance(space, NetworkSpace):
                raise ValueError(
                    "`known` must be given for the strategy surrogate: what is known of an architecture untrained."
                )
            sizes = _Sizes(space, data, say)
            try:
                search = SurrogateSearch(space, formulation, known=sizes, **options)
            except ValueError as error:
                if sizes.error is None:
                    raise
                raise ValueError(f"{error} One raised {type(sizes.error).__name__}: {sizes.error}") from sizes.error
            sizes.say = None
            return search
        case _ if name in SAMPLERS:
            return OptunaStrategy(space, formulation, sampler=name, **options)
    raise ValueError(f"`strategy` must be one of {', '.join(STRATEGIES)}, got {name!r}.")


class _Sizes:
    """Counts the parameters and multiply-adds of networks, and tells how long that takes before a search.

    Args:
        space: Of the networks.
        data: Images that they are for.
        say: Told once, if it takes long.
    """

    def __init__(self, space: NetworkSpace, data: ImageData, say: Callable[[str], None]) -> None:
        self._space, self._shape = space, (1, data.channels, data.resolution, data.resolution)
        self.say: Callable[[str], None] | None = say
        self.error: Exception | None = None
        self._seconds, self._count = 0.0, 0

    def __call__(self, architecture: Architecture) -> dict[str, float] | None:
        start = time.perf_counter()
        found = self._counted(architecture)
        self._seconds, self._count = self._seconds + time.perf_counter() - start, self._count + 1
        if self.say is not None and self._seconds > _PATIENCE_S:
            networks = math.prod(len(options) for options in self._space.choices.values())
            networks = networks if networks <= ENUMERATED else SAMPLED
            whole_s = networks * self._seconds / self._count
            self.say(f"Counting the multiply-adds of {networks:,} networks, about {duration(whole_s)}.")
            self.say = None
        return found

    def _counted(self, architecture: Architecture) -> dict[str, float] | None:
        if isinstance(self._space, ChainSpace) and self._space.plan(architecture).infeasible_reason:
            return None
        try:
            return size_metrics(self._space, architecture, self._shape)
        except Exception as error:  # somebody's own class may refuse a combination; evaluating it says how
            self.error = self.error or error
            return None
