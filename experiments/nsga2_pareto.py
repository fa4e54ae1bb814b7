"""Optuna's NSGA-II (or another of its samplers) looks for the Pareto front of a search space, in parallel on Ray.

Without options it trains a supernet on scikit-learn's bundled handwritten digits and searches its sub-networks for
accuracy and multiply-adds, in a few minutes. `optuna-dashboard <run directory>/optuna.log` shows the study meanwhile.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from nasray.carbon.budget import Budget
from nasray.objectives import Constraint
from nasray.optuna_study import SAMPLERS
from nasray.records import RunDirectory
from nasray.redaction import hide_passwords
from nasray.report.device_fronts import fronts_per_device
from nasray.tune.cli_errors import exit_status
from nasray.tune.disk_space import check_room
from nasray.tune.energy import settings as energy_options
from nasray.tune.energy.settings import EnergySettings
from nasray.tune.problems.problem import Place
from nasray.tune.problems.study import (
    SPACES,
    ParetoSettings,
    ParetoStudy,
    front_rows,
    parse_objectives,
    reference_point,
    why_infeasible,
)
from nasray.tune.problems.table import COMBINE
from nasray.tune.program import (
    Address,
    DryRun,
    JsonFile,
    MaxDiskGb,
    MaxFailures,
    NoProgress,
    NumWorkers,
    Resume,
    RunDir,
    StoragePath,
    Timeout,
    announce,
    check_common,
    new_run_path,
    open_storage,
    recorded,
    say,
)
from nasray.tune.progress import StageProgress
from nasray.tune.session import ClusterConfig

Option = typer.Option
_MAX_ROWS = 20


def main(
    space: Annotated[str, Option(help=f"{', '.join(SPACES)}; mobile means sub-networks of a supernet.")] = "mobile",
    table: Annotated[Path | None, Option(help="With tabular: parquet or CSV file.")] = None,
    architecture: Annotated[str | None, Option(help="With tabular: column(s) of the architectures.")] = None,
    devices: Annotated[
        str | None, Option(help="With tabular: columns of a cost on several devices, joined by commas.")
    ] = None,
    combine: Annotated[
        str | None,
        Option(
            help=f"How devices become objectives: {', '.join(COMBINE)}; by default {next(iter(COMBINE))}. The first "
            "two are one objective, worst_device or weighted_devices: the largest, or the mean, of each device's cost "
            "divided by its median in the table."
        ),
    ] = None,
    duplicates: Annotated[
        str | None,
        Option(
            help="With tabular: of an architecture that is listed again with other figures, keep the first or take the "
            "mean; by default (error) the table is refused."
        ),
    ] = None,
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
    timeout: Timeout = 600.0,
    max_failures: MaxFailures = None,
    seed: Annotated[int, Option(min=0, help="Seed.")] = 0,
    place: energy_options.Place = "world",
    pue: energy_options.Pue = 1.0,
    budget_co2_kg: energy_options.BudgetCo2Kg = None,
    budget_kwh: energy_options.BudgetKwh = None,
    budget_hours: energy_options.BudgetHours = None,
    run_dir: RunDir = None,
    storage_path: StoragePath = None,
    max_disk_gb: MaxDiskGb = None,
    workers: NumWorkers = None,
    address: Address = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    no_progress: NoProgress = False,
    json_file: JsonFile = None,
) -> None:
    """Look for the Pareto front of a search space with one of Optuna's samplers."""
    console = Console()
    check_common(json_file=json_file, resume=resume, run_dir=run_dir, storage_path=storage_path, timeout=timeout)
    budget = Budget(co2_kg=budget_co2_kg, kwh=budget_kwh, hours=budget_hours)
    energy = EnergySettings(place=place, pue=pue, budget=budget)
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
        devices=names_in(devices),
        combine=combine,
        duplicates=duplicates,
        data=data,
    )
    study = ParetoStudy(settings)
    say(console, *study.describe())
    bill = announce(
        console,
        study.problem,
        energy,
        num_evaluations=study.num_evaluations,
        num_workers=workers,
        address=address,
        is_resumed=resume,
    )
    check_room(bill, run_dir, max_disk_gb=max_disk_gb)
    if dry_run:
        return
    # A storage of its own may hold another study: better to know before there is a run directory.
    strategy = study.strategy(storage, study_name) if storage else None
    if strategy and strategy.num_continued and not resume:
        raise ValueError(
            f"`storage` must hold no study {study_name!r} yet. Add --resume or choose another --study-name."
        )
    folder = run_dir or new_run_path(sampler)
    remote = open_storage(console, storage_path, folder, resume=resume)
    run = RunDirectory.create(
        folder,
        method=f"optuna-{sampler}",
        preset=space,
        configuration=study.configuration(),
        seed=seed,
        data=study.problem.data(),
        resume=resume,
    )
    storage = storage or str(run.path / "optuna.log")
    strategy = strategy or study.strategy(storage, study_name)
    where = Place(
        run=run,
        progress=StageProgress(console, is_quiet=no_progress),
        cluster=ClusterConfig(address=address, storage=remote),
        num_workers=workers,
        timeout_s=timeout,
        max_failures=max_failures,
        energy=energy,
    )
    say(console, f"To watch: optuna-dashboard {hide_passwords(storage)}")
    with closing(strategy), recorded(run, console, bill, max_disk_gb=max_disk_gb, storage=remote):
        archive = study.execute(strategy, where)
    if remote is not None:
        remote.finish()
    rows = front_rows(archive)
    metrics = archive.formulation.metrics
    if rows:
        console.print(front_table(rows, metrics))
    else:
        searched = [row for row in run.evaluations() if row.get("stage", "search") == "search"]
        say(console, why_infeasible(searched, settings.constraints))
    if len(rows) > _MAX_ROWS:
        num_objectives = len(archive.formulation.objectives)
        # `nasray front` is about the quality against one cost at a time.
        source = f"nasray front {shlex.quote(str(run.path))}" if num_objectives == 2 else "the report, or --json FILE"
        say(console, f"{_MAX_ROWS} of {len(rows)} shown; all of them: {source}")
    for device, solutions in (fronts_per_device(archive, settings.devices) if settings.devices else {}).items():
        say(console, f"Front against {device} alone: {len(solutions)} networks of this search.")
    say(
        console,
        f"{len(rows)} on the front, {len(archive.solutions)} feasible of {archive.num_evaluations} candidates.",
        *run.run.get("spent", ()),
        f"Report: {run.path / 'report.html'}",
    )
    if json_file:
        volume = {"hypervolume": archive.hypervolume(), "reference_point": reference_point(archive)}
        json_file.write_text(json.dumps({"front": rows, **volume}, indent=1))


def names_in(text: str | None) -> tuple[str, ...]:
    """Return names joined by commas."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def front_table(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> Table:
    """Return the front, or evenly spaced networks of a long one."""
    table = Table(title="Pareto front")
    for head in ("Network", *metrics):
        table.add_column(head, justify="left" if head == "Network" else "right")
    for index in sorted({round(i * (len(rows) - 1) / (_MAX_ROWS - 1)) for i in range(_MAX_ROWS)}):
        row = rows[index]
        table.add_row(row["arch_id"], *(f"{row['metrics'][metric]:,.6g}" for metric in metrics))
    return table


if __name__ == "__main__":
    sys.exit(exit_status(main))
