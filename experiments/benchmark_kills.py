"""Kill a search at random moments, again and again, and check that nothing is lost and nothing counts twice.

Each search runs in a process of its own and is continued after every kill, until it is finished. What is killed with
SIGKILL, on Ray, is the driver with its whole process group, now and then a worker, or Ray's raylet. With one worker the
evaluations, in their order, must be those of a search that nobody killed; with more, the front of a search through the
whole space must be the table's.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import _killed_search as killed
import numpy as np
from _benchmark import Parser, at_least
from _killed_process import Child, ForkedChild, RayChild

from nasray.evaluation import Evaluation
from nasray.pareto import front_indices

_SEARCHING = 0.8
"""Share of kills while candidates are evaluated; the others come while the search starts."""
_HEALS_S, _HANGS_S, _LAST_S = 2.0, 20.0, 600.0


@dataclass(kw_only=True)
class Outcome:
    """What came of one strategy.

    Attributes:
        strategy: Its name.
        kills: By what was killed.
        searches: Searches that were finished; more than one where a search was finished before all kills were done.
        evaluations: Of all searches.
        resume_s: Seconds from each start until the first new evaluation.
        problems: What was wrong, a sentence each.
    """

    strategy: str
    kills: Counter[str] = field(default_factory=Counter)
    searches: int = 0
    evaluations: int = 0
    resume_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How searches are killed.

    Args:
        kills: How often, in all searches of a strategy together.
        evaluations: Of each search.
        workers: Candidates at a time.
        options: Of each of the four choices; the space has the fourth power of that.
        on_ray: Whether on Ray, or in a process alone.
        longest_s: Most seconds from the first new evaluation to the kill.
    """

    kills: int
    evaluations: int
    workers: int
    options: int
    on_ray: bool
    longest_s: float


def kill_again_and_again(plan: Plan, strategy: str, seed: int) -> Outcome:
    """Kill searches with a strategy until there were enough kills, and let the last one finish."""
    outcome, generator = Outcome(strategy=strategy), np.random.default_rng(seed)
    while not outcome.searches or (outcome.kills.total() < plan.kills and not outcome.problems):
        with tempfile.TemporaryDirectory() as folder:
            run_dir = Path(folder) / "run"
            start = _starter(plan, run_dir, strategy, seed + outcome.searches)
            _kill_one(plan, run_dir, start, generator, outcome)
            if not outcome.problems:
                outcome.problems += check(plan, run_dir, strategy, seed + outcome.searches)
            outcome.searches += 1
            outcome.evaluations += len(lines_of(run_dir))
    return outcome


def _kill_one(
    plan: Plan, run_dir: Path, start: Callable[[], Child], generator: np.random.Generator, outcome: Outcome
) -> None:
    """Kill one search until it is finished or there were enough kills; then let it finish."""
    is_over = False
    while not is_over and not outcome.problems:
        seen = lines_of(run_dir)
        with contextlib.closing(start()) as child:
            if outcome.kills.total() < plan.kills:
                _wait_for_moment(plan, run_dir, child, generator, outcome)
                is_over = child.status() is not None
            else:
                child.wait(_LAST_S, lambda: False)
                is_over = True
            if is_over and child.status() != 0:
                outcome.problems.append(f"a search ended with status {child.status()}: {child.errors()}")
            elif not is_over:
                seen = lines_of(run_dir)
                what = child.kill(generator)
                outcome.kills[what] += 1
                # Ray replaces a worker; a driver whose raylet is gone ends by itself, or is ended here.
                child.wait({"driver": 0.0, "worker": _HEALS_S, "raylet": _HANGS_S}[what], lambda: False)
        if lines_of(run_dir)[: len(seen)] != seen:
            outcome.problems.append("evaluations that were recorded before a kill are gone or changed after it.")


def _wait_for_moment(plan: Plan, run_dir: Path, child: Child, generator: np.random.Generator, outcome: Outcome) -> None:
    """Wait until a random moment: mostly while it searches, now and then while it starts."""
    begin, num_before = time.monotonic(), len(lines_of(run_dir))
    if generator.random() < _SEARCHING:
        child.wait(_LAST_S, lambda: len(lines_of(run_dir)) > num_before)
        outcome.resume_s.append(time.monotonic() - begin)
    child.wait(generator.random() * plan.longest_s, lambda: False)


def _starter(plan: Plan, run_dir: Path, strategy: str, seed: int) -> Callable[[], Child]:
    numbers = {"options": plan.options, "evaluations": plan.evaluations, "seed": seed, "workers": plan.workers}
    if not plan.on_ray:
        return lambda: ForkedChild(lambda: killed.search(run_dir, strategy, on_ray=False, **numbers))
    options = [text for name, number in numbers.items() for text in (f"--{name}", str(number))]
    command = [sys.executable, killed.__file__, str(run_dir), strategy, *options]
    return lambda: RayChild(command, run_dir.parent / "log.txt")


def check(plan: Plan, run_dir: Path, strategy: str, seed: int) -> list[str]:
    """Return what is wrong with a search that is finished."""
    rows = [json.loads(line) for line in lines_of(run_dir)]
    space = killed.make_space(plan.options)
    expected = min(plan.evaluations, len(space))
    problems = []
    for name in ("sample_id", "trial_id", "arch_id"):
        if len({row[name] for row in rows}) != expected or len(rows) != expected:
            problems.append(f"{len(rows)} evaluations have {len({row[name] for row in rows})} {name}s, not {expected}.")
    figures = {architecture.arch_id: space.metrics(architecture) for architecture in space.architectures}
    wrong = [row["sample_id"] for row in rows if row["status"] != "ok" or row["metrics"] != figures[row["arch_id"]]]
    problems += [f"evaluations {wrong[:3]} are not the table's."] if wrong else []
    if plan.workers == 1 and [row["arch_id"] for row in rows] != uninterrupted(plan, space, strategy, seed):
        problems.append("the evaluations are not those of a search that nobody killed.")
    if expected == len(space) and front_of(rows) != front_of([{"metrics": each} for each in figures.values()]):
        problems.append("the front is not the table's.")
    written = json.loads((run_dir / "front.json").read_text())["points"]
    if front_of(written) != front_of(rows):
        problems.append("front.json is not the front of the evaluations.")
    return problems


def uninterrupted(plan: Plan, space: Any, strategy: str, seed: int) -> list[str]:
    """Return what a search asks for, in order, that nobody kills."""
    search = killed.make_strategy(strategy, space, evaluations=plan.evaluations, seed=seed, folder=None)
    asked = []
    while trial := search.ask():
        asked.append(trial.architecture.arch_id)
        search.tell(trial.trial_id, Evaluation(metrics=space.metrics(trial.architecture)))
    return asked


def front_of(rows: list[dict[str, Any]]) -> set[tuple[float, float]]:
    """Return the points on the front."""
    points = [(row["metrics"]["error"], row["metrics"]["cost"]) for row in rows]
    return {points[index] for index in front_indices(points)}


def lines_of(run_dir: Path) -> list[bytes]:
    """Return the whole lines of the record."""
    path = run_dir / "evaluations.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def main() -> int:
    """Kill searches with each strategy and report; the status is 1 if something was lost or counted twice."""
    parser = Parser(__doc__)
    parser.add_argument("--kills", type=at_least(1), default=50, help="for each strategy")
    parser.add_argument("--strategies", nargs="+", choices=killed.STRATEGIES, default=["evolution"], help="to kill")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of searches and moments")
    parser.add_argument("--workers", type=at_least(1), default=1, help="candidates at a time")
    parser.add_argument("--evaluations", type=at_least(1), default=1200, help="of each search")
    parser.add_argument("--options", type=at_least(2), default=7, help="of each of four choices")
    parser.add_argument("--longest-s", type=float, default=1.5, help="most seconds of search before a kill")
    parser.add_argument("--without-ray", action="store_true", help="search in one process, for a quick look")
    given = parser.parse_args()
    plan = Plan(
        kills=given.kills,
        evaluations=given.evaluations,
        workers=given.workers,
        options=given.options,
        on_ray=not given.without_ray,
        longest_s=given.longest_s,
    )
    outcomes = []
    for strategy in given.strategies:
        start = time.monotonic()
        outcome = kill_again_and_again(plan, strategy, given.seed)
        outcomes.append(outcome)
        kinds = ", ".join(f"{number} of a {what}" for what, number in sorted(outcome.kills.items()))
        resume_s = f"{np.median(outcome.resume_s):.1f} s" if outcome.resume_s else "not seen"
        print(
            f"{strategy}, {plan.workers} worker(s): {outcome.kills.total()} kills ({kinds}) in {outcome.searches} "
            f"search(es) of {plan.evaluations}, {outcome.evaluations} evaluations; back at work after {resume_s} "
            f"(median); {time.monotonic() - start:.0f} s in all",
            flush=True,
        )
        for problem in outcome.problems:
            print(f"  wrong: {problem}")
        if not outcome.problems:
            print("  nothing lost, nothing counted twice, the front as it must be")
    if given.json:
        rows = [asdict(outcome) | {"kills": dict(outcome.kills)} for outcome in outcomes]
        given.json.write_text(json.dumps(rows, indent=1))
    return int(any(outcome.problems for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
