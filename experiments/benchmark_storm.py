"""Show that a search on Ray comes through a storm of bad candidates: all recorded, each for what it is.

A tenth of the candidates, in equal parts, hang (in Python; in native code that holds the interpreter's lock), really
run out of memory, return NaN, raise an exception, lack a metric, or are killed with their worker. The others return
figures drawn from their names. The same search without bad candidates is the yardstick of time and memory.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle, repeat
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _benchmark import Parser, at_least, spread, write_json

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.pareto import front_indices
from nasray.records import RunDirectory
from nasray.spaces.cell import CellSpace
from nasray.strategies.random_search import RandomSearch
from nasray.tune.candidate_search_run import run_search
from nasray.tune.session import ClusterConfig, ray_session
from nasray.tune.workers import Workers

OBJECTIVES = Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="latency_ms")])

EXPECTED = {
    "hang": ("failed", "time-out: took longer than"),
    "native hang": ("failed", "time-out: took longer than"),
    "memory": ("infeasible", "out of memory:"),
    "nan": ("failed", "accuracy is nan"),
    "exception": ("failed", "ValueError: shapes do not fit"),
    "missing metric": ("failed", "the result has no accuracy"),
    "killed worker": ("failed", "the worker died"),
}
"""What is recorded of each kind of bad candidate: its status, and how its reason begins."""


@dataclass(frozen=True, kw_only=True)
class Storm:
    """Which candidates are bad, and how.

    Args:
        num_candidates: Candidates of a search.
        share: Of the bad ones.
        timeout_s: How long a candidate may take, in seconds.
        grace_s: How much longer native code may.
        allocated_bytes: What a candidate that runs out of memory takes before it asks for more than there is.
        seed: Of the search, and of which candidates are bad.
    """

    num_candidates: int
    share: float
    timeout_s: float
    grace_s: float
    allocated_bytes: int
    seed: int

    def strategy(self) -> RandomSearch:
        """Return a search that asks for the same candidates whatever comes of them."""
        generator = np.random.default_rng(self.seed)
        return RandomSearch(CellSpace(), OBJECTIVES, num_evaluations=self.num_candidates, generator=generator)

    def kinds(self) -> dict[str, str]:
        """Return the kind of each bad candidate by the id of its architecture."""
        search = self.strategy()
        asked = [trial.architecture.arch_id for trial in iter(search.ask, None)]
        bad = np.random.default_rng(self.seed + 1).permutation(len(asked))[: round(self.share * len(asked))]
        return dict(zip((asked[index] for index in bad), cycle(EXPECTED), strict=False))


def table(arch_id: str) -> dict[str, float]:
    """Return the figures of a good candidate."""
    accuracy, latency = np.random.default_rng(int(arch_id, 16)).random(2).tolist()
    return {"accuracy": accuracy, "latency_ms": 10 * latency}


def misbehave(kind: str, storm: Storm) -> Evaluation:
    """Do what bad candidates of a kind do; runs in a worker."""
    match kind:
        case "hang":
            while True:
                time.sleep(60)
        case "native hang":
            sum(repeat(0))  # looks at no signal and lets no other thread run
        case "memory":
            import torch

            blocks = [torch.ones(1 << 20) for _ in range(storm.allocated_bytes >> 22)]
            return Evaluation(metrics={"accuracy": float(torch.empty(1 << 55)[0]), "latency_ms": len(blocks)})
        case "nan":
            return Evaluation.from_metrics({"accuracy": float("nan"), "latency_ms": 1.0}, 0.0)
        case "exception":
            raise ValueError("shapes do not fit")
        case "missing metric":
            return Evaluation(metrics={"acc": 0.5, "latency_ms": 1.0})
        case _:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
    raise RuntimeError(f"a candidate of kind {kind!r} went on")


def factory(kinds: Mapping[str, str], storm: Storm) -> Callable[[], Callable[[Architecture], Evaluation]]:
    """Return what makes evaluators that look candidates up."""

    def make() -> Callable[[Architecture], Evaluation]:
        import torch  # before time is counted

        torch.set_num_threads(1)
        process = psutil.Process()

        def evaluate(architecture: Architecture) -> Evaluation:
            if kind := kinds.get(architecture.arch_id):
                return misbehave(kind, storm)
            own = {"pid": process.pid, "rss_bytes": process.memory_info().rss}
            return Evaluation(metrics={**table(architecture.arch_id), **own})

        return evaluate

    return make


def search(storm: Storm, kinds: Mapping[str, str], num_workers: int, folder: Path) -> dict[str, Any]:
    """Run a search; returns its rows, its front (ids of architectures), its time in seconds and its memory in bytes."""
    run = RunDirectory.create(
        folder, method="storm", preset="", configuration={}, seed=storm.seed, data={}, resume=False
    )
    process, start = psutil.Process(), time.perf_counter()
    before = process.memory_info().rss
    archive = run_search(
        storm.strategy(),
        factory(kinds, storm),
        workers=Workers(count=num_workers, cpus=1, gpus=0),
        run=run,
        timeout_s=storm.timeout_s,
        grace_s=storm.grace_s,
    )
    return {
        "rows": run.evaluations(),
        "lines": len((run.path / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()),
        "front": sorted(solution.architecture.arch_id for solution in archive.front),
        "seconds": time.perf_counter() - start,
        "driver_bytes": [before, process.memory_info().rss],
        "worker_deaths": len(list(run.path.glob("ray/*/*/error.txt"))),
    }


def judge(found: Mapping[str, Any], kinds: Mapping[str, str], storm: Storm, num_workers: int) -> dict[str, Any]:
    """Return what is in a search's record, and whether all of it is as expected."""
    rows = {row["arch_id"]: row for row in found["rows"]}
    ends: Counter[tuple[str, str, str]] = Counter()
    wrong = []
    for arch_id, row in rows.items():
        kind = kinds.get(arch_id, "good")
        status, begins = EXPECTED.get(kind, ("ok", ""))
        reason = row["reason"] or ""
        is_right = row["status"] == status and reason.startswith(begins)
        if kind == "good":
            is_right = is_right and table(arch_id).items() <= row["metrics"].items()
        if not is_right:
            wrong.append({"arch_id": arch_id, "kind": kind, "status": row["status"], "reason": row["reason"]})
        ends[kind, row["status"], begins or "-"] += 1
    good = sorted(set(rows) - set(kinds))
    points = [(-table(arch_id)["accuracy"], table(arch_id)["latency_ms"]) for arch_id in good]
    ok = [row["metrics"] for row in found["rows"] if row["status"] == "ok"]
    rss = [metrics["rss_bytes"] for metrics in ok]
    return {
        "ends": [{"kind": k, "status": s, "reason": r, "count": n} for (k, s, r), n in sorted(ends.items())],
        "recorded": len(rows),
        "is_each_recorded_once": len(rows) == len(found["rows"]) == found["lines"] == storm.num_candidates,
        "wrong": wrong,
        "is_front_that_of_the_good": found["front"] == sorted(good[index] for index in front_indices(points)),
        "seconds": found["seconds"],
        "worker_deaths": found["worker_deaths"],
        "useful_workers": len({metrics["pid"] for metrics in ok}),
        "num_workers": num_workers,
        "driver_bytes": found["driver_bytes"],
        "worker_bytes": {"first": rss[0], "last": rss[-1], **spread(rss)},
    }


def show(name: str, figures: Mapping[str, Any]) -> None:
    """Print what came of a search."""
    print(f"{name}: {figures['seconds']:.1f} s, {figures['recorded']:,} candidates recorded")
    for end in figures["ends"]:
        print(f"  {end['count']:6,} {end['kind']:15} {end['status']:11} {end['reason']}")
    before, after = (size / 1e6 for size in figures["driver_bytes"])
    worker = {key: size / 1e6 for key, size in figures["worker_bytes"].items()}
    print(
        f"  {figures['worker_deaths']} workers died, {figures['useful_workers']} evaluated good candidates, "
        f"{figures['num_workers']} at a time; driver {before:.0f} MB before, {after:.0f} MB after; workers "
        f"{worker['first']:.0f} MB at their first good candidate, {worker['last']:.0f} MB at the last, median "
        f"{worker['median']:.0f} MB",
        flush=True,
    )


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--candidates", type=at_least(10), default=2000, help="candidates of each search")
    parser.add_argument("--share", type=float, default=0.1, help="share of bad candidates")
    parser.add_argument("--workers", type=at_least(1), default=2, help="workers")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds that a candidate may take")
    parser.add_argument("--grace", type=float, default=1.0, help="seconds that native code may take longer")
    parser.add_argument("--megabytes", type=at_least(4), default=128, help="taken before memory runs out")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed")
    arguments = parser.parse_args()
    if not (0 < arguments.share < 1 and arguments.timeout > 0 and arguments.grace > 0):
        parser.error("--share must be between 0 and 1, --timeout and --grace positive.")
    storm = Storm(
        num_candidates=arguments.candidates,
        share=arguments.share,
        timeout_s=arguments.timeout,
        grace_s=arguments.grace,
        allocated_bytes=arguments.megabytes << 20,
        seed=arguments.seed,
    )
    figures = {}
    with tempfile.TemporaryDirectory() as folder, ray_session(ClusterConfig(num_cpus=arguments.workers)):
        for name, kinds in (("calm", {}), ("storm", storm.kinds())):
            found = search(storm, kinds, arguments.workers, Path(folder) / name)
            figures[name] = judge(found, kinds, storm, arguments.workers)
            show(name, figures[name])
    wrong = [row for name in figures for row in figures[name]["wrong"]]
    is_right = not wrong and all(
        figures[name][key] for name in figures for key in ("is_each_recorded_once", "is_front_that_of_the_good")
    )
    print(f"storm over calm: {figures['storm']['seconds'] / figures['calm']['seconds']:.2f} times as long")
    print(f"each recorded once, as what it is, and the front that of the good: {'yes' if is_right else 'no'}")
    for row in wrong[:10]:
        print(f"  wrong: {row}")
    setting = {key: value for key, value in vars(arguments).items() if key != "json"}
    write_json(arguments.json, {"figures": figures, "is_right": is_right, "setting": setting})
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
