"""Measure how busy a search keeps its workers when candidates take very different times and some die.

Asynchronous evolution gives every free worker a candidate at once; generational NSGA-II (pymoo) waits for the last
candidate of a population. Both meet the same load: an architecture's time is fixed, log-uniform over a factor of ten,
and a share of the architectures die at a random moment of it and take their worker with them.

By default workers are simulated in virtual time, exactly. `--ray` also runs asynchronous evolution on real Ray actors
that sleep and, if their candidate dies, exit. Busy shares are of the time until the last candidate was handed out;
`whole` includes the end, when there is nothing left for free workers, and with `--ray` the start of the actors.
"""

from __future__ import annotations

import heapq
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _benchmark import Parser, at_least, spread, write_json
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.records import RunDirectory
from nasray.spaces.cell import CellSpace
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.tune.candidate_search_run import run_search
from nasray.tune.session import ClusterConfig, ray_session
from nasray.tune.workers import Workers

GOAL = 0.95
OBJECTIVES = Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="latency_ms")])

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Load:
    """What each architecture costs.

    Args:
        shortest_s: Shortest time, in seconds.
        ratio: The longest time over the shortest.
        deaths: Share of architectures that die.
        restart_s: How long the worker of a dead candidate takes to be back, in seconds.
        seed: Another one gives other times.
    """

    shortest_s: float
    ratio: float
    deaths: float
    restart_s: float
    seed: int

    def of(self, architecture: Architecture) -> tuple[float, bool]:
        """Return how long an architecture occupies its worker, in seconds, and whether it dies then."""
        place, fate, share = np.random.default_rng([self.seed, int(architecture.arch_id, 16)]).random(3)
        seconds = self.shortest_s * self.ratio**place
        return (seconds * share, True) if fate < self.deaths else (seconds, False)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What workers did.

    Args:
        intervals: When a worker was busy, in seconds.
        start_s: When the search could begin.
        last_start_s: When the last candidate was handed out.
    """

    intervals: Sequence[Interval]
    start_s: float
    last_start_s: float

    def busy_share(self, num_workers: int, start_s: float, end_s: float) -> float:
        """Return the share of the workers' time between two moments in which they were busy."""
        busy_s = sum(max(0.0, min(end, end_s) - max(start, start_s)) for start, end in self.intervals)
        return busy_s / (num_workers * (end_s - start_s))

    def figures(self, num_workers: int) -> dict[str, float]:
        """Return busy shares and throughput."""
        end_s = max(end for _, end in self.intervals)
        return {
            "busy": self.busy_share(num_workers, self.start_s, self.last_start_s),
            "busy_whole": self.busy_share(num_workers, min(start for start, _ in self.intervals), end_s),
            "candidates_per_hour": 3600 * len(self.intervals) / (end_s - self.start_s),
        }


def simulate(
    ask: Callable[[], tuple[Any, Architecture] | None], tell: Callable[[Any, bool], None], load: Load, num_workers: int
) -> Outcome:
    """Run workers in virtual time.

    Args:
        ask: Returns a candidate's name and architecture, or None to wait.
        tell: Takes a name and whether the candidate died.
        load: What candidates cost.
        num_workers: How many there are.
    """
    # Entries: moment, tie-breaker, name of the candidate that ends (None: a worker is back), whether it died.
    events: list[tuple[float, int, Any, bool]] = []
    intervals: list[Interval] = []
    now_s, num_free, number = 0.0, num_workers, 0
    while True:
        while num_free and (asked := ask()) is not None:
            seconds, dies = load.of(asked[1])
            number, num_free = number + 1, num_free - 1
            heapq.heappush(events, (now_s + seconds, number, asked[0], dies))
            intervals.append((now_s, now_s + seconds))
        if not events:
            return Outcome(intervals=intervals, start_s=0.0, last_start_s=max(start for start, _ in intervals))
        now_s, _, name, died = heapq.heappop(events)
        if name is not None:
            tell(name, died)
        if died:
            number += 1
            heapq.heappush(events, (now_s + load.restart_s, number, None, False))
        else:
            num_free += 1


def evaluation_of(architecture: Architecture, died: bool) -> Evaluation:
    """Return figures of an architecture, drawn from its name; what they are does not matter here."""
    if died:
        return Evaluation(status="failed", reason="died")
    accuracy, latency = np.random.default_rng(int(architecture.arch_id, 16)).random(2).tolist()
    return Evaluation(metrics={"accuracy": accuracy, "latency_ms": 10 * latency})


def evolution(num_candidates: int, seed: int) -> AsynchronousEvolution:
    """Return the asynchronous search."""
    generator = np.random.default_rng(seed)
    return AsynchronousEvolution(CellSpace(), OBJECTIVES, num_evaluations=num_candidates, generator=generator)


def asynchronous(num_candidates: int, load: Load, num_workers: int) -> Outcome:
    """Simulate asynchronous evolution."""
    strategy = evolution(num_candidates, load.seed)

    def ask() -> tuple[str, Architecture] | None:
        trial = strategy.ask()
        return None if trial is None else (trial.trial_id, trial.architecture)

    def tell(trial_id: str, died: bool) -> None:
        strategy.tell(trial_id, evaluation_of(strategy.architecture(trial_id), died))

    return simulate(ask, tell, load, num_workers)


class Generations:
    """pymoo's NSGA-II, asked for one candidate at a time; None while a population is not back."""

    def __init__(self, num_candidates: int, population_size: int, seed: int) -> None:
        self._space = CellSpace()
        options = [len(options) for options in self._space.choices.values()]
        problem = Problem(n_var=len(options), n_obj=2, xl=0, xu=np.array(options) - 1, vtype=int)
        self._algorithm = NSGA2(
            pop_size=population_size,
            sampling=IntegerRandomSampling(),
            crossover=SBX(vtype=float, repair=RoundingRepair()),
            mutation=PM(vtype=float, repair=RoundingRepair()),
        )
        self._algorithm.setup(problem, termination=("n_gen", 10**9), seed=seed, verbose=False)
        self._left = num_candidates
        self._population: Any = None
        self._next, self._num_back = 0, 0

    def ask(self) -> tuple[int, Architecture] | None:
        """Return a candidate of this generation."""
        if self._population is None:
            if self._left <= 0:
                return None
            self._population = self._algorithm.ask()
            self._next, self._num_back = 0, 0
        if self._next == len(self._population):
            return None
        self._left -= 1
        self._next += 1
        return self._next - 1, self._architecture(self._next - 1)

    def tell(self, index: int, died: bool) -> None:
        """Take a result; the last one of the generation starts the next."""
        metrics = evaluation_of(self._architecture(index), died).metrics
        values = [-metrics["accuracy"], metrics["latency_ms"]] if metrics else [1e3, 1e3]
        self._population[index].set("F", np.array(values))
        self._num_back += 1
        if self._num_back == len(self._population):
            for individual in self._population:
                individual.evaluated.update({"F", "G", "H"})
            self._algorithm.tell(infills=self._population)
            self._population = None

    def _architecture(self, index: int) -> Architecture:
        codes = self._population[index].X.astype(int).tolist()
        choices = self._space.choices.items()
        return self._space.canonical(
            {name: options[code] for (name, options), code in zip(choices, codes, strict=True)}
        )


def generational(num_candidates: int, population_size: int, load: Load, num_workers: int) -> Outcome:
    """Simulate generational NSGA-II."""
    search = Generations(num_candidates, population_size, load.seed)
    return simulate(search.ask, search.tell, load, num_workers)


def on_ray(num_candidates: int, load: Load, num_workers: int) -> Outcome:
    """Run asynchronous evolution on actors that sleep as long as their candidates take."""

    def factory() -> Callable[[Architecture], Evaluation]:
        def evaluate(architecture: Architecture) -> Evaluation:
            seconds, dies = load.of(architecture)
            start = time.time()
            time.sleep(seconds)
            if dies:
                os._exit(1)
            metrics = evaluation_of(architecture, died=False).metrics
            return Evaluation(metrics={**metrics, "start": start, "end": time.time()})

        return evaluate

    intervals: list[Interval] = []

    def note(trial: Any, evaluation: Evaluation) -> None:
        # The dead tell no times: they ended just now.
        end = evaluation.metrics.get("end", time.time())
        intervals.append((evaluation.metrics.get("start", end - load.of(trial.architecture)[0]), end))

    with tempfile.TemporaryDirectory() as folder, ray_session(ClusterConfig()):
        run = RunDirectory.create(
            Path(folder) / "run", method="async", preset="", configuration={}, seed=load.seed, data={}, resume=False
        )
        begin = time.time()
        run_search(
            evolution(num_candidates, load.seed),
            factory,
            workers=Workers(count=num_workers, cpus=0.1, gpus=0),
            run=run,
            max_retries=0,
            on_evaluation=note,
        )
    all_up_s = first_time_all_busy(intervals, num_workers)
    print(f"  all {num_workers} actors were busy for the first time after {all_up_s - begin:.1f} s")
    return Outcome(intervals=intervals, start_s=all_up_s, last_start_s=max(start for start, _ in intervals))


def first_time_all_busy(intervals: Sequence[Interval], num_workers: int) -> float:
    """Return the first moment at which as many intervals as there are workers overlap, or at which most do."""
    changes = sorted([(start, 1) for start, _ in intervals] + [(end, -1) for _, end in intervals])
    counts_N = np.cumsum([change for _, change in changes])
    return changes[int(np.argmax(counts_N >= min(num_workers, counts_N.max())))][0]


def show(name: str, rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Print and return the spread of a method's figures."""
    figures = {key: spread([row[key] for row in rows]) for key in rows[0]}
    busy, whole, rate = (figures[key] for key in ("busy", "busy_whole", "candidates_per_hour"))
    print(
        f"{name:34} busy {busy['mean']:6.1%} +- {busy['sd']:.1%}, whole run {whole['mean']:6.1%}, "
        f"{rate['mean']:,.0f} candidates/h",
        flush=True,
    )
    return figures


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--workers", type=at_least(1), default=16, help="W")
    parser.add_argument("--candidates", type=at_least(2), default=1600, help="candidates of a simulated search")
    parser.add_argument("--seeds", type=at_least(1), default=5, help="simulated searches of each kind")
    parser.add_argument("--populations", type=at_least(2), nargs="+", default=[16, 40, 100], help="of NSGA-II")
    parser.add_argument("--ratio", type=float, default=10.0, help="longest time of a candidate over the shortest")
    parser.add_argument("--deaths", type=float, default=0.05, help="share of candidates that die")
    parser.add_argument("--ray", action="store_true", help="run on real actors, too")
    parser.add_argument("--ray-candidates", type=at_least(2), default=160, help="candidates of the real search")
    parser.add_argument("--ray-shortest", type=float, default=4.0, help="shortest time of a real candidate, in seconds")
    arguments = parser.parse_args()
    if not (arguments.ratio >= 1 and 0 <= arguments.deaths < 1 and arguments.ray_shortest > 0):
        parser.error("--ratio must be at least 1, --deaths in [0, 1) and --ray-shortest positive.")
    num_workers, count = arguments.workers, arguments.candidates
    loads = [
        Load(shortest_s=60.0, ratio=arguments.ratio, deaths=arguments.deaths, restart_s=5.0, seed=seed)
        for seed in range(arguments.seeds)
    ]
    print(
        f"{num_workers} workers, {count} candidates of 60 to {60 * arguments.ratio:g} s, {arguments.deaths:.0%} die "
        f"(worker back after 5 s), {arguments.seeds} seeds, virtual time"
    )
    figures = {}
    rows = [asynchronous(count, load, num_workers).figures(num_workers) for load in loads]
    figures["asynchronous"] = show("asynchronous evolution", rows)
    for size in arguments.populations:
        rows = [generational(count, size, load, num_workers).figures(num_workers) for load in loads]
        figures[f"nsga2_{size}"] = show(f"generational NSGA-II, population {size}", rows)
    if arguments.ray:
        load = Load(
            shortest_s=arguments.ray_shortest, ratio=arguments.ratio, deaths=arguments.deaths, restart_s=0.0, seed=0
        )
        longest_s = load.shortest_s * load.ratio
        print(f"{arguments.ray_candidates} candidates of {load.shortest_s:g} to {longest_s:g} s on Ray, real time")
        row = on_ray(arguments.ray_candidates, load, num_workers).figures(num_workers)
        figures["asynchronous_ray"] = show("asynchronous evolution on Ray", [row])
    reached = min(figures[key]["busy"]["mean"] for key in figures if key.startswith("asynchronous"))
    print(f"goal for asynchronous evolution {GOAL:.0%}: {'met' if reached >= GOAL else 'missed'} ({reached:.1%})")
    setting = {key: value for key, value in vars(arguments).items() if key != "json"}
    write_json(arguments.json, {"figures": figures, "goal": GOAL, "setting": setting})


if __name__ == "__main__":
    main()
