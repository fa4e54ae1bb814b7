"""Measure what grows in a long search, and how busy it keeps many workers.

By default a search of 10,000 candidates runs on Ray, with one trial per candidate and a function as evaluator: chains
of layers, their parameters and a made-up accuracy that depends on the architecture alone. Shown are the driver's own
memory and its time per evaluation, wall-clock and processor time, in windows of 500 evaluations, then the space on disk
and the time of the report. `start` and `end` are the first and the last tenth of the evaluations. A machine that others
use is not equally fast at both: the same small piece of work is timed at every evaluation, and processor time is shown
in units of it, too.

Memory is what the driver alone has written. The unique set size holds the code of its libraries besides, for as long as
no other process of the machine has loaded the same ones: it goes up and down by 100 MB when others start and end.

With `--sleep-s LOW HIGH` candidates sleep instead, each as long as its architecture says, log-uniform, on as many
logical processors as there are `--workers`. Shown is how busy the workers were: from when all were at work until the
last candidate was handed out, and in the whole run, with the start of the workers and the end.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _benchmark import Parser, at_least, write_json
from _growth_curve import Curve, growth, plot
from benchmark_async import Interval, Outcome, evolution, first_time_all_busy
from benchmark_strategies import SPACE, WANTED, strategies

from nasray.architecture import Architecture
from nasray.carbon.intensity import carbon_intensity
from nasray.evaluation import Evaluation
from nasray.optuna_study import OptunaStrategy
from nasray.records import RunDirectory
from nasray.report import write_report
from nasray.strategies.candidate_search import CandidateSearch
from nasray.strategies.strategy import Trial
from nasray.tune.candidate_search_run import run_search
from nasray.tune.energy.account import ClusterAccount
from nasray.tune.session import ClusterConfig, ray_session
from nasray.tune.workers import Workers

STRATEGIES = ("evolution", "surrogate", "random", "nsga2")
GOAL_MB, GOAL_RATIO, GOAL_REPORT_S, GOAL_BUSY = 100.0, 1.2, 30.0, 0.9


def make_strategy(name: str, evaluations: int) -> CandidateSearch:
    """Return a strategy over chains of layers."""
    if name == "nsga2":
        generator = np.random.default_rng(0)
        return OptunaStrategy(SPACE, WANTED, num_evaluations=evaluations, generator=generator)
    return strategies(evaluations)[name]()


def made_up() -> Callable[[Architecture], Evaluation]:
    """Return an evaluator that takes no time: a chain's parameters, and an accuracy that grows with them."""
    space = SPACE

    def evaluate(architecture: Architecture) -> Evaluation:
        plan = space.plan(architecture)
        if not plan.is_feasible:
            return Evaluation(status="infeasible", reason="too large")
        noise = 0.05 * int(architecture.arch_id[:4], 16) / 0xFFFF
        accuracy = 0.95 - 1 / (2 + np.log1p(plan.parameters)) + noise
        return Evaluation(metrics={"accuracy": float(accuracy), "parameters": float(plan.parameters)})

    return evaluate


def create_run(folder: Path, method: str) -> RunDirectory:
    """Create a run directory."""
    return RunDirectory.create(folder, method=method, preset="growth", configuration={}, seed=0, data={}, resume=False)


def soak(name: str, evaluations: int, num_workers: int, window: int, *, has_energy: bool) -> dict[str, Any]:
    """Run a long search, write its report, and return what grew."""
    curve = Curve(window)
    with tempfile.TemporaryDirectory() as folder:
        run, start = create_run(Path(folder) / "run", name), time.perf_counter()
        with ray_session(ClusterConfig(num_cpus=num_workers)):
            account = ClusterAccount(carbon_intensity("world"), folder=run.path) if has_energy else None
            if account is not None:
                account.start()
            run_search(
                make_strategy(name, evaluations),
                made_up,
                workers=Workers(count=num_workers, cpus=1, gpus=0),
                run=run,
                account=account,
                on_evaluation=curve,
            )
            if account is not None:
                account.stop()
            whole_s, disk = time.perf_counter() - start, disk_use(run.path)
        report_s, report_mb = report(run)
    return {
        "whole_s": whole_s,
        **growth(curve.samples),
        **disk,
        "report_s": report_s,
        "report_mb": report_mb,
        "samples": [vars(sample) for sample in curve.samples],
    }


def disk_use(run_dir: Path) -> dict[str, float]:
    """Return files and MB in the run directory, in its part of Ray's, and in Ray's own folder for temporary files."""
    from ray._private.worker import global_worker

    places = {"run": run_dir, "ray": run_dir / "ray"}
    if global_worker.node is not None:
        places["temporary"] = Path(global_worker.node.get_session_dir_path()) / "artifacts"
    figures = {}
    for name, place in places.items():
        entries = list(place.rglob("*"))
        figures[f"{name}_entries"] = float(len(entries))
        figures[f"{name}_mb"] = sum(path.lstat().st_blocks for path in entries) * 512 / 1e6
    return figures


def report(run: RunDirectory) -> tuple[float, float]:
    """Write the report and return the seconds that it took and its size in MB."""
    run.write_front([objective.to_json() for objective in WANTED.objectives])
    run.update(status="done")
    start = time.perf_counter()
    path = write_report(run)
    return time.perf_counter() - start, path.stat().st_size / 1e6


def show_soak(figures: Mapping[str, Any]) -> None:
    """Print the table of a long search."""
    rows = [
        ("time per evaluation, ms", "start_ms", "end_ms", "ratio"),
        ("driver's processor time, ms", "start_cpu_ms", "end_cpu_ms", "cpu_ratio"),
        ("the same in fixed work", "start_work", "end_work", "work_ratio"),
    ]
    print(f"{'':30}{'start':>10}{'end':>10}{'ratio':>10}")
    for title, *keys in rows:
        print(f"{title:30}" + "".join(f"{figures[key]:10.2f}" for key in keys))
    print(f"{'memory of the driver, MB':30}{figures['start_mb']:10.1f}{figures['end_mb']:10.1f}", end="")
    print(f"   grew by {figures['growth_mb']:.1f} (USS by {figures['uss_growth_mb']:.1f})")
    for name in ("run", "ray", "temporary"):
        print(f"on disk, {name + ':':12} {figures[name + '_entries']:,.0f} entries, {figures[name + '_mb']:.1f} MB")
    print(f"report: {figures['report_s']:.1f} s, {figures['report_mb']:.2f} MB; whole run {figures['whole_s']:.0f} s")
    is_met = {
        f"memory < {GOAL_MB:g} MB": figures["growth_mb"] < GOAL_MB,
        f"time <= {GOAL_RATIO:g}x": figures["ratio"] <= GOAL_RATIO,
        f"work <= {GOAL_RATIO:g}x": figures["work_ratio"] <= GOAL_RATIO,
        f"report < {GOAL_REPORT_S:g} s": figures["report_s"] < GOAL_REPORT_S,
    }
    print("goals: " + ", ".join(f"{goal} {'met' if met else 'missed'}" for goal, met in is_met.items()))


def busy(evaluations: int, num_workers: int, shortest_s: float, longest_s: float) -> dict[str, float]:
    """Have workers sleep, and return how busy they were."""
    intervals: list[Interval] = []

    def factory() -> Callable[[Architecture], Evaluation]:
        def evaluate(architecture: Architecture) -> Evaluation:
            # Of nothing here but this function: a worker that imported this file would start with all of torch.
            start = time.time()
            place, accuracy, share = np.random.default_rng(int(architecture.arch_id, 16)).random(3).tolist()
            time.sleep(shortest_s * (longest_s / shortest_s) ** place)
            metrics = {"accuracy": accuracy, "latency_ms": 10 * share}
            return Evaluation(metrics={**metrics, "start": start, "end": time.time()})

        return evaluate

    def note(trial: Trial, evaluation: Evaluation) -> None:
        intervals.append((evaluation.metrics["start"], evaluation.metrics["end"]))
        if len(intervals) % num_workers == 0:
            print(f"{len(intervals):7} candidates after {time.time() - begin:.0f} s", flush=True)

    process, begin = psutil.Process(), time.time()
    with tempfile.TemporaryDirectory() as folder, ray_session(ClusterConfig(num_cpus=num_workers)):
        begin, cpu = time.time(), process.cpu_times()
        run_search(
            evolution(evaluations, seed=0),
            factory,
            workers=Workers(count=num_workers, cpus=1, gpus=0),
            run=create_run(Path(folder) / "run", "busy"),
            on_evaluation=note,
        )
        end, cpu_end = time.time(), process.cpu_times()
    cpu_s = cpu_end.user + cpu_end.system - cpu.user - cpu.system
    all_busy_s = first_time_all_busy(intervals, num_workers)
    outcome = Outcome(intervals=intervals, start_s=all_busy_s, last_start_s=max(start for start, _ in intervals))
    return {
        "start_up_s": all_busy_s - begin,
        "busy": outcome.busy_share(num_workers, all_busy_s, outcome.last_start_s),
        "busy_whole": outcome.busy_share(num_workers, begin, end),
        "candidates_per_s": len(intervals) / (end - all_busy_s),
        "driver_cpu_ms": 1e3 * cpu_s / len(intervals),
        "whole_s": end - begin,
    }


def main() -> None:
    """Measure growth or how busy workers are."""
    parser = Parser(__doc__)
    parser.add_argument("--evaluations", type=at_least(20), default=10_000, help="candidates")
    parser.add_argument("--strategy", choices=STRATEGIES, default="evolution", help="what to ask")
    parser.add_argument("--workers", type=at_least(1), default=2, help="workers")
    parser.add_argument("--window", type=at_least(1), default=500, help="evaluations between two samples")
    parser.add_argument("--energy", action="store_true", help="charge every candidate its energy")
    parser.add_argument("--sleep-s", type=float, nargs=2, metavar=("LOW", "HIGH"), help="candidates sleep instead")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="where to draw the curves, as HTML")
    given = parser.parse_args()
    if not given.sleep_s and given.evaluations < 2 * given.window:
        parser.error(f"--evaluations must be at least two windows, got {given.evaluations}. Use a smaller --window.")
    if given.sleep_s and not 0 < given.sleep_s[0] <= given.sleep_s[1]:
        parser.error(f"--sleep-s must be two positive numbers, the smaller one first, got {given.sleep_s}.")
    if given.sleep_s:
        figures: dict[str, Any] = busy(given.evaluations, given.workers, *given.sleep_s)
        print(
            f"{given.workers} workers, {given.evaluations} candidates of {given.sleep_s[0]:g} to "
            f"{given.sleep_s[1]:g} s: busy {figures['busy']:.1%} (goal {GOAL_BUSY:.0%}), in the whole run "
            f"{figures['busy_whole']:.1%}; all were at work after {figures['start_up_s']:.0f} s; "
            f"{figures['candidates_per_s']:.1f} candidates/s, {figures['driver_cpu_ms']:.1f} ms of the driver's "
            "processor for each"
        )
    else:
        print(f"{given.strategy}, {given.evaluations} evaluations, {given.workers} workers", flush=True)
        figures = soak(given.strategy, given.evaluations, given.workers, given.window, has_energy=given.energy)
        show_soak(figures)
        if given.plot:
            plot(given.plot, figures["samples"])
    setting = {key: value for key, value in vars(given).items() if key not in ("json", "plot")}
    write_json(given.json, {"figures": figures, "setting": setting})


if __name__ == "__main__":
    main()
