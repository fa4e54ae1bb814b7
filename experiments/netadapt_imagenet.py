"""NetAdaptV2: find, train and export networks that are accurate and cheap.

Without options it runs in a few minutes on scikit-learn's bundled handwritten digits. Given ImageNet and a paper preset
it is the published search.
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
from nasray.records import RunDirectory
from nasray.report import result_table, write_report
from nasray.training.candidates import CandidateConfig
from nasray.training.config import TrainingConfig
from nasray.training.evaluate import NORM_POLICIES
from nasray.tune.cli_errors import exit_status
from nasray.tune.disk_space import check_room
from nasray.tune.energy import settings as energy_options
from nasray.tune.energy.settings import EnergySettings
from nasray.tune.netadapt import NetAdaptRun
from nasray.tune.netadapt_bill import netadapt_bill
from nasray.tune.netadapt_settings import PRESETS, NetAdaptSettings, Target, check_network
from nasray.tune.payback import BASELINES
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
Settings = TypeVar("Settings", NetAdaptSettings, TrainingConfig, CandidateConfig)


def main(
    preset: Annotated[str, Option(help=f"Recipe: {', '.join(PRESETS)}.")] = "quick",
    data: Annotated[
        Path | None,
        Option(help="CIFAR-10/100 (python batches or parquet) or an ImageNet folder; none uses bundled digits."),
    ] = None,
    network: Annotated[str | None, Option(help="Initial network, as mobile-32; by default fits the images.")] = None,
    cost: Annotated[
        list[str] | None,
        Option(
            help="Cost to limit: macs, parameters, memory (bytes), latency (ms, by lookup table), "
            "measured-latency (ms). Repeatable."
        ),
    ] = None,
    target: Annotated[
        list[str] | None, Option(help="Where to stop: 50% of the initial cost, or a value in its unit. Repeatable.")
    ] = None,
    optimizer: Annotated[str | None, Option(help="multi-layer (NetAdaptV2) or single-layer (NetAdaptV1).")] = None,
    samples: Annotated[int | None, Option(help="J, samples per iteration.")] = None,
    layers: Annotated[int | None, Option(help="L, layers that a sample may shrink.")] = None,
    first_reduction: Annotated[float | None, Option(help="Share of the initial cost saved first, 0.03 is 3 %.")] = None,
    ordered_dropout: Annotated[
        str, Option(help="partitioned (parts of the batch share a sub-network) or masked (each image has its own).")
    ] = "partitioned",
    norm_policy: Annotated[
        str | None, Option(help=f"Batch-norm statistics of candidates: {', '.join(NORM_POLICIES)}.")
    ] = None,
    distillation: Annotated[float | None, Option(help="Teacher's share of the final loss, 0 to 1; 0 for none.")] = None,
    label_smoothing: Annotated[float | None, Option(help="Label smoothing of the final training, 0 to 1.")] = None,
    survival: Annotated[float | None, Option(help="Survival probability of stochastic depth, final training.")] = None,
    inherit: Annotated[bool, Option("--inherit", help="Start final training from the supernet's weights.")] = False,
    epochs: Annotated[int | None, Option(help="Epochs of the supernet.")] = None,
    final_epochs: Annotated[int | None, Option(help="Epochs of each discovered network.")] = None,
    max_train: Annotated[int | None, Option(help="Most training images to use.")] = None,
    latency_device: Annotated[str | None, Option(help="Where latency is measured: cpu (one thread) or cuda.")] = None,
    latency_table: Annotated[Path | None, Option(help="Lookup table of this device; by default one is built.")] = None,
    seed: Annotated[list[int] | None, Option(help="Seed; repeat for several supernets and searches.")] = None,
    baseline: Annotated[
        str, Option(help=f"What a found network has to pay its search back against: {', '.join(BASELINES)}.")
    ] = BASELINES[0],
    timeout: Timeout = 600.0,
    max_failures: MaxFailures = None,
    training_workers: Annotated[int, Option(min=1, help="Data-parallel workers of a training.")] = 1,
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
    """Find, train and export networks that are accurate and cheap (NetAdaptV2)."""
    console = Console()
    if preset not in PRESETS:
        raise ValueError(f"`preset` must be one of {', '.join(PRESETS)}, got {preset!r}.")
    check_common(json_file=json_file, resume=resume, run_dir=run_dir, storage_path=storage_path, timeout=timeout)
    if baseline not in BASELINES:
        raise ValueError(f"`baseline` must be one of {', '.join(BASELINES)}, got {baseline!r}.")
    budget = Budget(co2_kg=budget_co2_kg, kwh=budget_kwh, hours=budget_hours)
    energy = EnergySettings(place=place, pue=pue, budget=budget)
    settings = changed(PRESETS[preset](), locals())
    # The preset's limit keeps large data sets quick; the bundled digits are small anyway.
    images = load_image_data(data, max_train=settings.max_train if data else max_train)
    run = NetAdaptRun(settings, images, seeds=seed or [0], latency_table=latency_table)
    say(console, images.notice, *run.describe())
    cpus, gpus = local_resources()
    bill = netadapt_bill(
        run,
        energy,
        num_workers=workers or gpus or cpus,
        training_workers=training_workers,
        device="cuda" if gpus else "cpu",
    )
    say(console, *bill.lines(budget, is_resumed=resume))
    check_room(bill, run_dir, max_disk_gb=max_disk_gb)
    if dry_run:
        return
    folder = run_dir or new_run_path("netadapt")
    storage = open_storage(console, storage_path, folder, resume=resume)
    records = RunDirectory.create(
        folder,
        method="netadaptv2",
        preset=preset,
        configuration=run.configuration(),
        seed=run.seeds[0],
        data=images.describe(),
        resume=resume,
    )
    try:
        with recorded(records, console, bill, max_disk_gb=max_disk_gb, storage=storage):
            rows = run.execute(
                records,
                StageProgress(console, is_quiet=no_progress),
                cluster=ClusterConfig(address=address, storage=storage),
                num_workers=workers,
                training_workers=training_workers,
                energy=energy,
                bill=bill,
                baseline=baseline,
                timeout_s=timeout,
                max_failures=max_failures,
            )
    finally:
        write_report(records)
    if storage is not None:
        storage.finish()
    console.print(result_table(rows))
    say(console, *records.run["break_even"], *records.run.get("spent", ()), f"Report: {records.path / 'report.html'}")
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1))


def changed(settings: NetAdaptSettings, options: dict[str, Any]) -> NetAdaptSettings:
    """Return the preset with the options that were given."""
    check_network(options["network"])
    if options["ordered_dropout"] not in ("partitioned", "masked"):
        raise ValueError(f"`ordered-dropout` must be partitioned or masked, got {options['ordered_dropout']!r}.")
    given = {
        "network": options["network"],
        "supernet": rescaled(settings.supernet, options["epochs"]),
        "is_masked": options["ordered_dropout"] == "masked",
        "costs": tuple(options["cost"] or settings.costs),
        "targets": tuple(Target.parse(text) for text in options["target"] or ()) or None,
        "optimizer": options["optimizer"],
        "num_samples": options["samples"],
        "num_layers": options["layers"],
        "first_reduction": options["first_reduction"],
        "candidates": with_given(settings.candidates, policy=options["norm_policy"]),
        "final": with_given(
            rescaled(settings.final, options["final_epochs"]),
            label_smoothing=options["label_smoothing"],
            survival=options["survival"],
        ),
        "distillation": options["distillation"],
        "inherits": options["inherit"] or None,
        "latency_device": options["latency_device"],
        "max_train": options["max_train"],
    }
    return with_given(settings, **given)


def with_given(settings: Settings, **options: Any) -> Settings:
    """Return settings with the options that are not None."""
    return replace(settings, **{name: value for name, value in options.items() if value is not None})


def rescaled(recipe: TrainingConfig, epochs: int | None) -> TrainingConfig:
    """Return a recipe of another length, whose rate falls as far."""
    if epochs is None:
        return recipe
    return replace(recipe, epochs=epochs, decay_epochs=recipe.decay_epochs * epochs / recipe.epochs)


if __name__ == "__main__":
    sys.exit(exit_status(main))
