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

from nasray.data import load_image_data
from nasray.records import RunDirectory
from nasray.report import result_table, write_report
from nasray.training.candidates import CandidateConfig
from nasray.training.config import TrainingConfig
from nasray.training.evaluate import NORM_POLICIES
from nasray.tune.cli_errors import exit_status
from nasray.tune.netadapt import NetAdaptRun, new_run_path
from nasray.tune.netadapt_settings import PRESETS, NetAdaptSettings, Target, check_network
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
    run_dir: Annotated[Path | None, Option(help="Folder of the run; by default a new one under runs/.")] = None,
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
    workers: Annotated[
        int | None, Option(min=1, help="Evaluation actors; by default one per GPU or processor.")
    ] = None,
    training_workers: Annotated[int, Option(min=1, help="Data-parallel workers of a training.")] = 1,
    address: Annotated[str | None, Option(help="Ray cluster: auto or its address; by default Ray starts here.")] = None,
    resume: Annotated[bool, Option("--resume", help="Go on with the run in --run-dir.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Check everything, say what would be done, and stop.")] = False,
    no_progress: Annotated[bool, Option("--no-progress", help="Show no progress.")] = False,
    json_file: Annotated[Path | None, Option("--json", help="Write the result table here as JSON.")] = None,
) -> None:
    """Find, train and export networks that are accurate and cheap (NetAdaptV2)."""
    console = Console()
    if preset not in PRESETS:
        raise ValueError(f"`preset` must be one of {', '.join(PRESETS)}, got {preset!r}.")
    if json_file and not json_file.resolve().parent.is_dir():
        raise ValueError(f"`json` must name a file in a folder that exists, got {json_file}. Make the folder first.")
    settings = changed(PRESETS[preset](), locals())
    # The preset's limit keeps large data sets quick; the bundled digits are small anyway.
    images = load_image_data(data, max_train=settings.max_train if data else max_train)
    run = NetAdaptRun(settings, images, seeds=seed or [0], latency_table=latency_table)
    for line in [images.notice or "", *run.describe()]:
        if line:
            console.print(line, highlight=False, soft_wrap=True)
    if dry_run:
        return
    records = RunDirectory.create(
        run_dir or new_run_path(),
        method="netadaptv2",
        preset=preset,
        configuration=run.configuration(),
        seed=run.seeds[0],
        data=images.describe(),
        resume=resume,
    )
    records.update(status="running", command=["python", *sys.argv])
    console.print(f"Run directory: {records.path}", highlight=False, soft_wrap=True)
    try:
        rows = run.execute(
            records,
            StageProgress(console, is_quiet=no_progress),
            cluster=ClusterConfig(address=address),
            num_workers=workers,
            training_workers=training_workers,
        )
    except BaseException as error:
        records.update(status="interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        if not isinstance(error, (ValueError, ConnectionError)):
            hint = f"Not finished. Go on with the same command and --resume --run-dir {records.path}"
            console.print(hint, highlight=False, soft_wrap=True)
            write_report(records)
        raise
    console.print(result_table(rows))
    console.print(f"Report: {records.path / 'report.html'}", highlight=False, soft_wrap=True)
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
