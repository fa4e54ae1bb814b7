"""MS-RANAS: differentiable search of cells for networks with several scales and early exits.

Without options it runs in a few minutes on scikit-learn's bundled handwritten digits. Given CIFAR-10 or CIFAR-100 and a
paper preset it is the published search. Found networks are compared with random architectures of the same space and
with MSDNet, both at about the same multiply-adds and trained by the same loop.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from nasray.carbon.budget import Budget
from nasray.data import load_image_data
from nasray.differentiable.config import SearchConfig
from nasray.differentiable.relaxation import RELAXATIONS
from nasray.records import RunDirectory
from nasray.report import write_report
from nasray.report.anytime import METHOD
from nasray.report.anytime_adaptive import budget_sentences
from nasray.report.anytime_table import anytime_table, comparison_sentences, kinds
from nasray.training.config import TrainingConfig
from nasray.tune.cli_errors import exit_status
from nasray.tune.disk_space import check_room
from nasray.tune.energy import settings as energy_options
from nasray.tune.energy.settings import EnergySettings
from nasray.tune.ms_ranas import MSRanasRun
from nasray.tune.ms_ranas_bill import ms_ranas_bill
from nasray.tune.ms_ranas_presets import PRESETS
from nasray.tune.ms_ranas_settings import COSTS, MSRanasSettings
from nasray.tune.program import (
    Address,
    DryRun,
    JsonFile,
    MaxDiskGb,
    NoProgress,
    NumWorkers,
    Resume,
    RunDir,
    StoragePath,
    check_common,
    local_resources,
    new_run_path,
    open_storage,
    recorded,
    say,
)
from nasray.tune.progress import StageProgress
from nasray.tune.session import ClusterConfig

Option = typer.Option
Settings = TypeVar("Settings", MSRanasSettings, SearchConfig, TrainingConfig)


def main(
    preset: Annotated[str, Option(help=f"Recipe: {', '.join(PRESETS)}.")] = "quick",
    data: Annotated[
        Path | None, Option(help="CIFAR-10/100 (python batches or parquet) or an image folder; none uses digits.")
    ] = None,
    resolution: Annotated[int | None, Option(min=1, help="Side of the images in pixels.")] = None,
    scales: Annotated[list[int] | None, Option(help="Scales of a search, 1 to 3. Repeatable.")] = None,
    exits: Annotated[
        list[int] | None, Option(help="Exits of a search; by default one after each layer but the first. Repeatable.")
    ] = None,
    cutout: Annotated[
        list[int] | None, Option(help="Side of the square cut out of training images; 0 for none. Repeatable.")
    ] = None,
    cost_weight: Annotated[
        list[float] | None, Option(help="Weight of the expected cost beside the loss; sweeps a front. Repeatable.")
    ] = None,
    cost: Annotated[str | None, Option(help=f"What is charged for: {', '.join(COSTS)} (measured here).")] = None,
    cost_target: Annotated[
        float | None, Option(help="What the found network may take as searched, in multiply-adds, ms or mJ.")
    ] = None,
    layers: Annotated[int | None, Option(help="Layers of cells.")] = None,
    nodes: Annotated[int | None, Option(help="Intermediate nodes of a cell, 2 or 4.")] = None,
    channels: Annotated[int | None, Option(help="Channels of the first layer in the search.")] = None,
    final_channels: Annotated[int | None, Option(help="The same in the final training.")] = None,
    final_scales: Annotated[int | None, Option(help="Scales of the final training; by default the search's.")] = None,
    final_exits: Annotated[int | None, Option(help="Exits of the final training; by default the search's.")] = None,
    order: Annotated[int | None, Option(help="1 or 2: order of the architecture's gradient.")] = None,
    relaxation: Annotated[str | None, Option(help=f"Of the choice of operations: {', '.join(RELAXATIONS)}.")] = None,
    stop_at_collapse: Annotated[
        bool, Option("--stop-at-collapse", help="End a search when skip connections take over the normal cell.")
    ] = False,
    epochs: Annotated[int | None, Option(help="Epochs of a search.")] = None,
    frozen_epochs: Annotated[
        int | None, Option(help="Of them, those at the beginning in which only weights train, not the architecture.")
    ] = None,
    halving: Annotated[
        float | None, Option(help="Of so many searches one goes on beyond a third of its epochs; by default all do.")
    ] = None,
    final_epochs: Annotated[int | None, Option(help="Epochs of each final training.")] = None,
    drop_path: Annotated[float | None, Option(help="Probability to which drop path rises in final training.")] = None,
    auxiliary: Annotated[
        bool, Option("--auxiliary", help="Train final networks with one exit with an auxiliary head.")
    ] = False,
    random: Annotated[int | None, Option(help="Random architectures to compare each found network with.")] = None,
    seeds: Annotated[list[int] | None, Option(help="Seed of searches and trainings. Repeatable.")] = None,
    max_train: Annotated[int | None, Option(min=1, help="Most training images to use.")] = None,
    latency_device: Annotated[str | None, Option(help="Where latency is measured: cpu (one thread) or cuda.")] = None,
    measure_energy: Annotated[
        bool, Option("--measure-energy", help="Measure the energy of each exit too, if the device has a counter.")
    ] = False,
    inference_budget: Annotated[
        list[float] | None,
        Option(help="Multiply-adds for an image that are expected; by default all that exits cost. Repeatable."),
    ] = None,
    training_workers: Annotated[int, Option(min=1, help="Data-parallel workers of a final training.")] = 1,
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
    """Search cells for networks with several scales and early exits (MS-RANAS)."""
    console = Console()
    if preset not in PRESETS:
        raise ValueError(f"`preset` must be one of {', '.join(PRESETS)}, got {preset!r}.")
    check_common(json_file=json_file, resume=resume, run_dir=run_dir, storage_path=storage_path)
    budget = Budget(co2_kg=budget_co2_kg, kwh=budget_kwh, hours=budget_hours)
    energy = EnergySettings(place=place, pue=pue, budget=budget)
    settings = changed(PRESETS[preset](), locals())
    # The preset's limit keeps large data sets quick; the bundled digits are small anyway.
    images = load_image_data(data, max_train=settings.max_train if data else max_train, resolution=resolution)
    run = MSRanasRun(
        settings, images, seeds=seeds or [0], measures_energy=measure_energy, budgets_macs=inference_budget or ()
    )
    cpus, gpus = local_resources()
    device = "cuda" if gpus else "cpu"
    if address is None:
        if workers is not None and workers > cpus:
            raise ValueError(f"`workers` must be at most {cpus}, the processors of this machine, got {workers}.")
        if training_workers > (most := gpus or cpus):
            raise ValueError(f"`training-workers` must be at most {most} on this machine, got {training_workers}.")
        # Searches that share a GPU share its memory; on GPUs of their own, each has one.
        run.check_memory(device, -(-(workers or gpus) // gpus) if gpus else workers or cpus)
    say(console, images.notice, *run.describe())
    # Several workers on one GPU share it, so that they are no faster than one.
    num_workers = min(workers or gpus, gpus) if gpus else workers or cpus
    bill = ms_ranas_bill(run, energy, num_workers=num_workers, device=device)
    say(console, *bill.lines(budget, is_resumed=resume))
    check_room(bill, run_dir, max_disk_gb=max_disk_gb)
    if dry_run:
        return
    folder = run_dir or new_run_path("msranas")
    storage = open_storage(console, storage_path, folder, resume=resume)
    records = RunDirectory.create(
        folder,
        method=METHOD,
        preset=preset,
        configuration=run.configuration(),
        seed=run.seeds[0],
        data=images.describe(),
        resume=resume,
    )
    try:
        with recorded(records, console, bill, max_disk_gb=max_disk_gb, storage=storage):
            results = run.execute(
                records,
                StageProgress(console, is_quiet=no_progress),
                cluster=ClusterConfig(address=address, storage=storage),
                num_workers=workers,
                training_workers=training_workers,
                energy=energy,
                bill=bill,
            )
    finally:
        write_report(records)
    if storage is not None:
        storage.finish()
    console.print(anytime_table(results["networks"]))
    say(console, *budget_sentences(kinds(results["networks"]), results["budgets"]))
    say(console, *comparison_sentences(results["comparisons"]), *records.run.get("spent", ()))
    say(console, f"Report: {records.path / 'report.html'}")
    if json_file:
        json_file.write_text(json.dumps(results, indent=1))


def changed(settings: MSRanasSettings, options: dict[str, Any]) -> MSRanasSettings:
    """Return the preset with the options that were given."""
    repeated = {"scales": "scales", "exits": "exits", "cutouts_px": "cutout", "cost_weights": "cost_weight"}
    same = ("cost", "cost_target", "halving", "layers", "channels", "final_channels", "final_scales", "final_exits")
    given: dict[str, Any] = {name: tuple(options[option] or ()) or None for name, option in repeated.items()}
    given |= {name: options[name] for name in (*same, "latency_device", "max_train", "drop_path")}
    given |= {"num_nodes": options["nodes"], "num_random": options["random"]}
    given["has_auxiliary"] = options["auxiliary"] or None
    epochs, frozen_epochs = options["epochs"], options["frozen_epochs"]
    if frozen_epochs is None and epochs is not None:  # a preset's own share of fewer epochs
        frozen_epochs = min(settings.search.frozen_epochs, max(0, epochs) // 3)
    given["search"] = with_given(
        settings.search,
        order=options["order"],
        epochs=epochs,
        frozen_epochs=frozen_epochs,
        relaxation=options["relaxation"],
        stops_at_collapse=options["stop_at_collapse"] or None,
    )
    given["final"] = with_given(settings.final, epochs=options["final_epochs"])
    return with_given(settings, **given)


def with_given(settings: Settings, **options: Any) -> Settings:
    """Return settings with the options that are not None."""
    return replace(settings, **{name: value for name, value in options.items() if value is not None})


if __name__ == "__main__":
    sys.exit(exit_status(main))
