"""Compare search strategies on a table of architectures whose figures are all known, so that regret can be told.

Without --table it is NAS-Bench-201 (unique cells) with latencies and energies measured on real devices, from the
folder named by NASRAY_DATA. Regret is 1 - hypervolume / hypervolume of the exact front; objectives are normalised by
the exact front's ideal and nadir, the reference point is 1.1 in each. A baseline that asks for a row again has spent
an evaluation.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _benchmark import Parser, at_least, write_json
from _tabular_strategies import OURS, STRATEGIES, Problem, Search, run, run_on_ray

from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.pareto import front_indices, hypervolume
from nasray.spaces.tabular import TabularSpace

if TYPE_CHECKING:
    import pandas as pd

EVERY = 10
"""Evaluations between two rows of figures."""
LEARNED = re.compile(r"acc|err|loss|top.?[15]|perplexity|ppl|auc|f1|iou|map|psnr|rmse|score|quality", re.IGNORECASE)
"""What a metric that needs training is called; others are taken for hardware costs."""
Row = dict[str, Any]


def main() -> None:
    """Run every strategy with every seed and print regrets."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--table", type=Path, metavar="FILE", help="parquet or CSV; by default NAS-Bench-201 with measured devices")
    add("--architecture", default="arch_str", metavar="COLUMN", help="column of the architectures")
    add("--minimise", default="hwnb_pixel3_ms", metavar="A,B", help="columns to minimise")
    add("--maximise", default="c10_test_acc_200ep", metavar="C", help="columns to maximise")
    add("--trained", metavar="A,C", help="columns that only training tells; by default those named like a quality")
    add("--strategies", default=",".join(STRATEGIES), help="what to compare")
    add("--evaluations", type=at_least(EVERY), default=200, help="rows that a strategy may look up")
    add("--seeds", type=at_least(1), default=5, help="searches of each strategy")
    add("--first-seed", type=at_least(0), default=0, help="seed of the first search; the next ones follow")
    add("--all-spellings", action="store_true", help="NAS-Bench-201 with isomorphic cells as rows of their own")
    add("--processes", type=at_least(1), default=os.cpu_count(), help="searches at once")
    add("--plot", type=Path, metavar="FILE", help="where to write regret by evaluations as an HTML page")
    add("--ray", action="store_true", help="every look-up is a trial of Ray Tune, of nasray's strategies only")
    arguments = parser.parse_args()
    strategies = chosen(parser, arguments.strategies)
    problem = read_problem(parser, arguments)
    front = front_of(problem)
    print(describe(problem, front), flush=True)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    tasks = [(name, seed) for seed in seeds for name in strategies]
    options: dict[str, Any] = {"problem": problem, "front": front, "evaluations": arguments.evaluations}
    work: Callable[[tuple[str, int]], list[Row]] = partial(figures, **options)
    if arguments.ray:
        results = on_ray(parser, tasks, options)
    elif arguments.processes == 1:
        results = [work(task) for task in tasks]
    else:
        with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
            results = pool.map(work, tasks, chunksize=1)
    rows = [row for result in results for row in result]
    print_table(rows, strategies, arguments.evaluations)
    write_json(arguments.json, rows)
    if arguments.plot:
        plot(rows, strategies, arguments.plot)


def chosen(parser: Parser, text: str) -> list[str]:
    """Return the strategies that were asked for."""
    names = text.split(",")
    if unknown := [name for name in names if name not in STRATEGIES]:
        parser.error(f"--strategies must be among {', '.join(STRATEGIES)}, got {unknown[0]!r}.")
    return names


def read_problem(parser: Parser, arguments: argparse.Namespace) -> Problem:
    """Return the table with its objectives."""
    minimised, maximised = columns(arguments.minimise), columns(arguments.maximise)
    objectives = [Objective(name=name) for name in minimised]
    objectives += [Objective(name=name, direction="maximize") for name in maximised]
    names = minimised + maximised
    trained = columns(arguments.trained) if arguments.trained else [name for name in names if LEARNED.search(name)]
    if not 2 <= len(set(names)) == len(names) <= 5:
        parser.error(f"--minimise and --maximise must name 2 to 5 different columns together, got {names}.")
    if wrong := [name for name in trained if name not in names]:
        parser.error(f"--trained must be among the objectives {', '.join(names)}, got {wrong[0]!r}.")
    try:
        options = {"architecture": arguments.architecture, "metrics": names}
        if arguments.table:
            space = TabularSpace.from_file(arguments.table, **options)
        else:
            cells = nasbench201(parser, is_unique=not arguments.all_spellings)
            space = TabularSpace(cells, name="nasbench201", **options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    known = tuple(name for name in names if name not in trained)
    return Problem(space=space, formulation=Pareto(objectives), known=known)


def columns(text: str) -> list[str]:
    """Return the names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def nasbench201(parser: Parser, *, is_unique: bool) -> pd.DataFrame:
    """Return NAS-Bench-201 with what was measured on devices; errors in percent as columns.

    Args:
        parser: Told if there is no data.
        is_unique: Whether isomorphic cells are one row.
    """
    import pandas as pd

    if "NASRAY_DATA" not in os.environ:
        parser.error("NASRAY_DATA is not set: pass --table FILE and --architecture COLUMN for a table of yours.")
    folder = Path(os.environ["NASRAY_DATA"])
    cells = pd.read_parquet(folder / "nasbench201" / "nasbench201.parquet")
    if is_unique:
        cells = cells.drop_duplicates("unique_str")
    devices = pd.read_parquet(folder / "hwnasbench" / "nb201_latency_cifar10.parquet").drop(columns="arch_str")
    pi = pd.read_parquet(folder / "hwnasbench360" / "hwnasbench360.parquet")
    pi = pi[(pi.task == "cifar100") & (pi.device == "pi5")].pivot_table(
        index="arch_idx", columns="framework", values=["energy_mj", "lat_ms_median"], observed=True
    )
    units = {"energy_mj": "energy_mj", "lat_ms_median": "ms"}
    pi.columns = pd.Index([f"pi5_{pair[1]}_{units[pair[0]]}" for pair in pi.columns.tolist()])
    table = cells.merge(devices, on="index").merge(pi, left_on="index", right_index=True)
    for name in [name for name in map(str, table) if name.endswith("acc_200ep")]:
        table[name.replace("_acc_", "_error_")] = 100 - table[name]
    return table


def front_of(problem: Problem) -> np.ndarray:
    """Return the exact front, to be minimised."""
    objectives = problem.formulation.objectives
    values = np.column_stack([o.sign * problem.space.column(o.name) for o in objectives])
    return values[front_indices(values)]


def describe(problem: Problem, front: np.ndarray) -> str:
    """Return what is searched."""
    space = problem.space
    goals = ", ".join(
        f"{o.direction} {o.name} ({'known' if o.name in problem.known else 'trained'})"
        for o in problem.formulation.objectives
    )
    dropped = f", {space.num_dropped} rows without all of them left out" if space.num_dropped else ""
    return f"{space.name}: {len(space):,} architectures{dropped}; {goals}; exact front of {len(front)}"


def on_ray(parser: Parser, tasks: list[tuple[str, int]], options: dict[str, Any]) -> list[list[Row]]:
    """Run the searches on a local Ray, one after the other."""
    from nasray.tune.session import ClusterConfig, ray_session

    if others := [name for name, _ in tasks if name not in OURS]:
        parser.error(f"--ray runs {', '.join(OURS)} only, got {others[0]}. Leave it out with --strategies.")
    with ray_session(ClusterConfig()):
        return [figures(task, search_with=run_on_ray, **options) for task in tasks]


def figures(
    task: tuple[str, int],
    *,
    problem: Problem,
    front: np.ndarray,
    evaluations: int,
    search_with: Callable[..., Search] = run,
) -> list[Row]:
    """Run one search and return its regret as it goes."""
    name, seed = task
    search = search_with(name, problem, seed=seed, evaluations=evaluations)
    regrets = regret_over_time(search, problem, front)
    per_step = 1e3 * search.seconds / len(search.rows)
    counts = list(range(EVERY, len(search.rows) + 1, EVERY))
    return [
        {
            "strategy": name,
            "seed": seed,
            "evaluations": count,
            "regret": regrets[count - 1],
            "unique": len(set(search.rows[:count])),
            "ask_tell_ms": per_step,
        }
        for count in counts
    ]


def regret_over_time(search: Search, problem: Problem, front: np.ndarray) -> list[float]:
    """Return the regret after each evaluation."""
    low, high = front.min(axis=0), front.max(axis=0)
    extent, reference = np.where(high > low, high - low, 1.0), np.full(front.shape[1], 1.1)
    full = hypervolume((front - low) / extent, reference)
    best, volume, regrets = np.empty((0, front.shape[1])), 0.0, []
    for row in search.rows:
        point = (problem.values(row) - low) / extent
        if not (len(best) and (best <= point).all(axis=1).any()):
            best = np.vstack([best[~(point <= best).all(axis=1)], point])
            volume = hypervolume(best, reference)
        regrets.append(1 - volume / full)
    return regrets


def print_table(rows: list[Row], strategies: list[str], evaluations: int) -> None:
    """Print mean and standard deviation of the regret, evaluations to 99 % and 99.9 %, and what a step took."""
    marks = [count for count in (50, 100, 200, 500, 1000, 2000, 5000) if count < evaluations] + [evaluations]
    marks = [count - count % EVERY for count in marks]
    print("regret after     " + "".join(f"{count:>18}" for count in marks) + "   to 99 %  99.9 %  unique  ms/step")
    for name in strategies:
        own = [row for row in rows if row["strategy"] == name]
        cells = [at(own, count) for count in marks]
        last = [row for row in own if row["evaluations"] == max(row["evaluations"] for row in own)]
        unique = np.mean([row["unique"] / row["evaluations"] for row in last])
        step = np.mean([row["ask_tell_ms"] for row in last])
        print(
            f"{name:17}"
            + "".join(cells)
            + f"{reached(own, 0.01):>10}{reached(own, 0.001):>8}{unique:>8.2f}{step:>9.2f}"
        )


def at(rows: list[Row], count: int) -> str:
    """Return mean and deviation of the regret after so many evaluations."""
    regrets = [row["regret"] for row in rows if row["evaluations"] == count]
    if not regrets:
        return f"{'-':>18}"
    deviation = float(np.std(regrets, ddof=1)) if len(regrets) > 1 else 0.0
    return f"{np.mean(regrets):>9.5f} +-{deviation:.4f}"


def reached(rows: list[Row], regret: float) -> str:
    """Return the median number of evaluations to a regret; > the last count if the median search did not get there."""
    counts = []
    for seed in {row["seed"] for row in rows}:
        own = [row["evaluations"] for row in rows if row["seed"] == seed and row["regret"] <= regret]
        counts.append(min(own, default=np.inf))
    median = float(np.median(counts))
    return f"{median:.0f}" if np.isfinite(median) else f">{max(row['evaluations'] for row in rows)}"


def plot(rows: list[Row], strategies: list[str], path: Path) -> None:
    """Write the mean regret by evaluations as a page that needs no network."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name in strategies:
        own = [row for row in rows if row["strategy"] == name]
        counts = sorted({row["evaluations"] for row in own})
        means = [np.mean([row["regret"] for row in own if row["evaluations"] == count]) for count in counts]
        figure.add_scatter(x=counts, y=means, name=name, mode="lines")
    figure.update_layout(xaxis_title="evaluations", yaxis_title="hypervolume regret (mean)", yaxis_type="log")
    figure.write_html(path, include_plotlyjs=True)


if __name__ == "__main__":
    main()
