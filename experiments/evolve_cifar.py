"""Evolution after MENNDL: networks of up to 32 layers that are accurate, small and fast.

Without options it runs in a few minutes on scikit-learn's bundled handwritten digits; give CIFAR-10, CIFAR-100 or an
image folder such as CINIC-10 with --data. Every candidate is trained from scratch in a trial of its own, which is
charged the energy and CO2 that it takes.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console

from nasray.carbon.bill import Bill
from nasray.carbon.budget import Budget
from nasray.data import load_image_data
from nasray.formulations import Formulation, Pareto
from nasray.hardware.inference_energy import has_counter
from nasray.objectives import Constraint, Objective
from nasray.records import RunDirectory
from nasray.regularised import Regularised
from nasray.report import write_report
from nasray.report.trade_offs import trade_off_rows, trade_off_table
from nasray.spaces.chain import ChainSpace
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.training.config import TrainingConfig
from nasray.tune.cli_errors import exit_status
from nasray.tune.disk_space import check_room
from nasray.tune.energy import settings as energy_options
from nasray.tune.energy.settings import EnergySettings
from nasray.tune.inference_rows import with_inference_energy
from nasray.tune.measured_again import check_front
from nasray.tune.problems.problem import Place
from nasray.tune.problems.trained import TrainedProblem
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
OBJECTIVES = (
    Objective(name="accuracy", direction="maximize", ideal=1.0),
    Objective(name="parameters"),
    Objective(name="inference_time_s", unit="s"),
)


def main(
    data: Annotated[
        Path | None, Option(help="CIFAR-10/100 (python batches or parquet) or an image folder; none uses digits.")
    ] = None,
    evaluations: Annotated[int, Option(min=1, help="Candidates to train.")] = 200,
    population_size: Annotated[int, Option(min=2, help="Candidates that may become parents.")] = 20,
    only_accuracy: Annotated[
        bool, Option("--only-accuracy", help="Breed for accuracy alone, as the paper did; costs are only reported.")
    ] = False,
    has_ageing: Annotated[bool, Option("--ageing", help="The oldest leaves the population, not the worst.")] = False,
    minimize: Annotated[
        list[str] | None,
        Option(help="Objective beside those of the paper, as carbon_g (training) or lifetime_carbon_g. Repeatable."),
    ] = None,
    inferences: Annotated[float, Option(help="Inferences of a network's lifetime, for lifetime_carbon_g.")] = 1e6,
    carbon_weight: Annotated[
        float | None,
        Option(help="Breed for accuracy less this much for the CO2 of an average training: 0.01 is one point."),
    ] = None,
    constraint: Annotated[list[str] | None, Option(help="Limit, as parameters<=1e6. Repeatable.")] = None,
    quality_weight: Annotated[float, Option(help="Weight of accuracy in trade-offs, costs having 1.")] = 400.0,
    epochs: Annotated[int | None, Option(min=1, help="Epochs of a candidate; 10 on digits, else 5.")] = None,
    max_train: Annotated[int | None, Option(min=1, help="Most training images to use; 10,000 unless digits.")] = None,
    resolution: Annotated[int | None, Option(help="Side of the images in pixels.")] = None,
    timeout: Timeout = 600.0,
    max_failures: MaxFailures = None,
    seed: Annotated[int, Option(min=0, help="Seed of search and training.")] = 0,
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
    """Evolve networks that are accurate, small and fast (after MENNDL)."""
    console = Console()
    check_common(json_file=json_file, resume=resume, run_dir=run_dir, storage_path=storage_path, timeout=timeout)
    if not 0 <= quality_weight < math.inf:
        raise ValueError(f"`quality-weight` must be a finite number of at least 0, got {quality_weight}.")
    budget = Budget(co2_kg=budget_co2_kg, kwh=budget_kwh, hours=budget_hours)
    energy = EnergySettings(place=place, pue=pue, budget=budget, inferences=inferences)
    images = load_image_data(data, max_train=max_train or (10_000 if data else None), resolution=resolution, seed=seed)
    space = ChainSpace(num_classes=images.num_classes, in_channels=images.channels, resolution=images.resolution)
    recipe = training(epochs or (5 if data else 10))
    problem = TrainedProblem(
        space, images, recipe, seed=seed, objectives=OBJECTIVES, num_evaluations=evaluations, has_lifetime=True
    )
    wanted = formulation(minimize or (), constraint or ())
    problem.check(wanted)
    say(console, images.notice, *problem.describe())
    bill = announce(
        console,
        problem,
        energy,
        num_evaluations=evaluations,
        num_workers=workers,
        address=address,
        is_resumed=resume,
    )
    energy = replace(energy, worker_power_w=bill.power_w)
    bred = breeding(wanted, bill, only_accuracy=only_accuracy, carbon_weight=carbon_weight)
    say(console, f"Search: {evaluations} candidates, {wanted.describe()}; bred for {bred.describe()}.")
    strategy = AsynchronousEvolution(
        space,
        bred,
        num_evaluations=evaluations,
        generator=np.random.default_rng(seed),
        population_size=population_size,
        tournament_size=min(5, population_size),
        has_ageing=has_ageing,
    )
    check_room(bill, run_dir, max_disk_gb=max_disk_gb)
    if dry_run:
        return
    folder = run_dir or new_run_path("evolve")
    storage = open_storage(console, storage_path, folder, resume=resume)
    run = RunDirectory.create(
        folder,
        method="evolution",
        preset="menndl",
        configuration=problem.configuration()
        | {
            "space": space.name,
            "evaluations": evaluations,
            "population_size": population_size,
            "only_accuracy": only_accuracy,
            "carbon_weight": carbon_weight,
            "inferences": inferences,
            "ageing": has_ageing,
            "objectives": [objective.name for objective in wanted.objectives],
            "constraints": [str(limit) for limit in wanted.constraints],
        },
        seed=seed,
        data=images.describe(),
        resume=resume,
    )
    where = Place(
        run=run,
        progress=StageProgress(console, is_quiet=no_progress),
        cluster=ClusterConfig(address=address, storage=storage),
        num_workers=workers,
        timeout_s=timeout,
        max_failures=max_failures,
        energy=energy,
    )
    with recorded(run, console, bill, max_disk_gb=max_disk_gb, storage=storage):
        archive = problem.search(strategy, where, wanted)
        rows = trade_off_rows(archive, quality_weight=quality_weight, also=("test_accuracy",)) if archive.front else []
        if rows and has_counter("cuda" if torch.cuda.is_available() else "cpu"):
            found = {solution.architecture.arch_id: solution.architecture for solution in archive.front}
            rows = with_inference_energy(rows, found, problem.inference_energy, where.progress)
        else:
            say(console, "Energy per inference: not measured, as the device has no energy counter that can be read.")
        run.write_front([objective.to_json() for objective in wanted.objectives])
        again = problem.remeasure(wanted)
        check = check_front(run, again, where.progress) if again else None
        run.update(status="done", trade_offs=rows)
        write_report(run)
    if storage is not None:
        storage.finish()
    if rows:
        console.print(trade_off_table(rows))
    say(
        console,
        f"{len(archive.front)} networks on the front of {archive.num_evaluations} evaluations",
        f"Measured again: {check.describe()}" if check else None,
        *run.run.get("spent", ()),
        f"Report: {run.path / 'report.html'}",
    )
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1))


def breeding(wanted: Pareto, bill: Bill, *, only_accuracy: bool, carbon_weight: float | None) -> Formulation:
    """Return what candidates are bred for: all that is wanted, accuracy alone, or accuracy less the price of carbon.

    Raises:
        ValueError: If both are asked for, or carbon has a price but is unknown.
    """
    if carbon_weight is None:
        return Pareto(OBJECTIVES[:1], wanted.constraints) if only_accuracy else wanted
    (search,) = (stage for stage in bill.stages if stage.evaluations)
    carbon_g = bill.carbon_g(search.energy_j)
    if only_accuracy or not carbon_g:
        raise ValueError("`carbon-weight` must come without --only-accuracy, and needs the energy of this machine.")
    terms = [("carbon_g", carbon_weight, carbon_g / search.evaluations)]
    return Regularised(OBJECTIVES[0], terms, wanted.constraints)


def formulation(minimize: Sequence[str], constraints: Sequence[str]) -> Pareto:
    """Return the paper's objectives and those that were asked for beside them."""
    more = [Objective(name=name) for name in dict.fromkeys(minimize) if name not in {o.name for o in OBJECTIVES}]
    return Pareto([*OBJECTIVES, *more], [Constraint.parse(text) for text in constraints])


def training(epochs: int) -> TrainingConfig:
    """Return a short recipe whose rate falls by 0.963 eighty times."""
    return TrainingConfig(
        epochs=epochs,
        batch_size=64,
        learning_rate=0.15,
        decay_epochs=epochs / 80,
        warmup_epochs=min(1.0, epochs / 8),
        gradient_clip=2.0,
        ema_decay=0.99,
    )


if __name__ == "__main__":
    sys.exit(exit_status(main))
