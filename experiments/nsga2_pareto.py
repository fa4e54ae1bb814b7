"""Optuna's NSGA-II (or another of its samplers) looks for the Pareto front of a search space, in parallel on Ray.

Without options it trains a supernet on scikit-learn's bundled handwritten digits and searches its sub-networks for
accuracy and multiply-adds, in a few minutes. `optuna-dashboard <run directory>/optuna.log` shows the study meanwhile.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from nasray.objectives import Constraint
from nasray.optuna_study import SAMPLERS
from nasray.records import RunDirectory
from nasray.tune.cli_errors import exit_status
from nasray.tune.pareto_problems import Place
from nasray.tune.pareto_study import SPACES, ParetoSettings, ParetoStudy, front_rows, parse_objectives
from nasray.tune.progress import StageProgress
from nasray.tune.session import ClusterConfig

Option = typer.Option
_MAX_ROWS = 20


def main(
    space: Annotated[str, Option(help=f"{', '.join(SPACES)}; mobile means sub-networks of a supernet.")] = "mobile",
    table: Annotated[Path | None, Option(help="With tabular: parquet or CSV file.")] = None,
    architecture: Annotated[str | None, Option(help="With tabular: column(s) of the architectures.")] = None,
    minimize: Annotated[list[str] | None, Option(help="Metrics to minimise, joined by commas.")] = None,
    maximize: Annotated[list[str] | None, Option(help="Metrics to maximise, joined by commas.")] = None,
    constraint: Annotated[list[str] | None, Option(help="Limit, as latency_ms<=5. Repeatable.")] = None,
    sampler: Annotated[str, Option(help=f"Optuna's sampler: {', '.join(SAMPLERS)}.")] = "nsga2",
    population_size: Annotated[int | None, Option(help="Candidates of a generation; by default 50.")] = None,
    evaluations: Annotated[int | None, Option(help="Candidates; by default 1000, of chains and cells 40.")] = None,
    epochs: Annotated[int | None, Option(min=1, help="Epochs of the supernet, or of each chain or cell.")] = None,
    storage: Annotated[
        str | None,
        Option(help="Journal file or URL, as sqlite:///study.db; by default optuna.log in the run directory."),
    ] = None,
    study_name: Annotated[str, Option(help="Name of the study in the storage.")] = "nasray",
    data: Annotated[
        Path | None,
        Option(help="CIFAR-10/100 (python batches or parquet) or an ImageNet folder; none uses bundled digits."),
    ] = None,
    run_dir: Annotated[Path | None, Option(help="Folder of the run; by default a new one under runs/.")] = None,
    seed: Annotated[int, Option(min=0, help="Seed.")] = 0,
    workers: Annotated[int | None, Option(min=1, help="Evaluators; by default one per GPU or processor.")] = None,
    address: Annotated[str | None, Option(help="Ray cluster: auto or its address; by default Ray starts here.")] = None,
    resume: Annotated[bool, Option("--resume", help="Go on with the run in --run-dir.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Check everything, say what would be done, and stop.")] = False,
    no_progress: Annotated[bool, Option("--no-progress", help="Show no progress.")] = False,
    json_file: Annotated[Path | None, Option("--json", help="Write the front here as JSON.")] = None,
) -> None:
    """Look for the Pareto front of a search space with one of Optuna's samplers."""
    console = Console()
    if json_file and not json_file.resolve().parent.is_dir():
        raise ValueError(f"`json` must name a file in a folder that exists, got {json_file}. Make the folder first.")
    settings = ParetoSettings(
        space=space,
        objectives=parse_objectives(minimize or (), maximize or ()),
        constraints=tuple(Constraint.parse(text) for text in constraint or ()),
        sampler=sampler,
        population_size=population_size,
        evaluations=evaluations,
        epochs=epochs,
        seed=seed,
        table=table,
        architecture=architecture,
        data=data,
    )
    study = ParetoStudy(settings)
    say(console, *study.describe())
    if dry_run:
        return
    # A storage of its own may hold another study: better to know before there is a run directory.
    strategy = study.strategy(storage, study_name) if storage else None
    if strategy and strategy.num_continued and not resume:
        raise ValueError(
            f"`storage` must hold no study {study_name!r} yet. Add --resume or choose another --study-name."
        )
    run = RunDirectory.create(
        run_dir or Path("runs") / time.strftime(f"{sampler}-%Y%m%d-%H%M%S"),
        method=f"optuna-{sampler}",
        preset=space,
        configuration=study.configuration(),
        seed=seed,
        data=study.problem.data(),
        resume=resume,
    )
    storage = storage or str(run.path / "optuna.log")
    strategy = strategy or study.strategy(storage, study_name)
    run.update(status="running", command=["python", *sys.argv])
    say(console, f"Run directory: {run.path}", f"To watch: optuna-dashboard {storage}")
    progress = StageProgress(console, is_quiet=no_progress)
    place = Place(run=run, progress=progress, cluster=ClusterConfig(address=address), num_workers=workers)
    try:
        archive = study.execute(strategy, place)
    except BaseException as error:
        run.update(status="interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        say(console, f"Not finished. Go on with the same command and --resume --run-dir {run.path}")
        raise
    finally:
        strategy.close()
    rows = front_rows(archive)
    metrics = archive.formulation.metrics
    console.print(front_table(rows, metrics))
    say(
        console, f"{len(rows)} on the front, {len(archive.solutions)} feasible of {archive.num_evaluations} candidates."
    )
    if json_file:
        json_file.write_text(json.dumps({"front": rows, "hypervolume": archive.hypervolume()}, indent=1))


def front_table(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> Table:
    """Return the front, or evenly spaced networks of a long one."""
    table = Table(title="Pareto front")
    for head in ("Network", *metrics):
        table.add_column(head, justify="left" if head == "Network" else "right")
    for index in sorted({round(i * (len(rows) - 1) / (_MAX_ROWS - 1)) for i in range(_MAX_ROWS)} if rows else ()):
        row = rows[index]
        table.add_row(row["arch_id"], *(f"{row['metrics'][metric]:,.6g}" for metric in metrics))
    return table


def say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(exit_status(main))
