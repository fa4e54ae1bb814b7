"""Evolution after MENNDL: networks of up to 32 layers that are accurate, small and fast.

Without options it runs in a few minutes on scikit-learn's bundled handwritten digits; give CIFAR-10, CIFAR-100 or an
image folder such as CINIC-10 with --data. Every candidate is trained from scratch in a trial of its own.
"""

from __future__ import annotations

import json
import math
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console

from nasray.data import ImageData, load_image_data
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Constraint, Objective
from nasray.records import RunDirectory
from nasray.report import write_report
from nasray.report.trade_offs import trade_off_rows, trade_off_table
from nasray.search.evolution import AsynchronousEvolution
from nasray.search.strategy import Trial
from nasray.spaces.chain import ChainSpace
from nasray.training.config import TrainingConfig
from nasray.training.network_evaluation import METRICS, NetworkEvaluationConfig, NetworkEvaluator
from nasray.tune.candidate_search_run import run_search
from nasray.tune.cli_errors import exit_status
from nasray.tune.progress import StageProgress
from nasray.tune.session import ClusterConfig, Workers, ray_session

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
    run_dir: Annotated[Path | None, Option(help="Folder of the run; by default a new one under runs/.")] = None,
    evaluations: Annotated[int, Option(min=1, help="Candidates to train.")] = 200,
    population_size: Annotated[int, Option(min=2, help="Candidates that may become parents.")] = 20,
    only_accuracy: Annotated[
        bool, Option("--only-accuracy", help="Breed for accuracy alone, as the paper did; costs are only reported.")
    ] = False,
    has_ageing: Annotated[bool, Option("--ageing", help="The oldest leaves the population, not the worst.")] = False,
    constraint: Annotated[list[str] | None, Option(help="Limit, as parameters<=1e6. Repeatable.")] = None,
    quality_weight: Annotated[float, Option(help="Weight of accuracy in trade-offs, costs having 1.")] = 400.0,
    epochs: Annotated[int | None, Option(min=1, help="Epochs of a candidate; 10 on digits, else 5.")] = None,
    max_train: Annotated[int | None, Option(min=1, help="Most training images to use; 10,000 unless digits.")] = None,
    resolution: Annotated[int | None, Option(help="Side of the images in pixels.")] = None,
    timeout: Annotated[float, Option(help="Seconds that a candidate may take.")] = 600.0,
    seed: Annotated[int, Option(min=0, help="Seed of search and training.")] = 0,
    workers: Annotated[
        int | None, Option(min=1, help="Candidates at a time; by default all GPUs or processors.")
    ] = None,
    address: Annotated[str | None, Option(help="Ray cluster: auto or its address; by default Ray starts here.")] = None,
    resume: Annotated[bool, Option("--resume", help="Go on with the run in --run-dir.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Check everything, say what would be done, and stop.")] = False,
    no_progress: Annotated[bool, Option("--no-progress", help="Show no progress.")] = False,
    json_file: Annotated[Path | None, Option("--json", help="Write the table here as JSON.")] = None,
) -> None:
    """Evolve networks that are accurate, small and fast (after MENNDL)."""
    console = Console()
    if json_file and not json_file.resolve().parent.is_dir():
        raise ValueError(f"`json` must name a file in a folder that exists, got {json_file}. Make the folder first.")
    if not 0 <= quality_weight < math.inf:
        raise ValueError(f"`quality-weight` must be a finite number of at least 0, got {quality_weight}.")
    if not timeout > 0:
        raise ValueError(f"`timeout` must be positive, got {timeout}. Give seconds, such as 600.")
    if resume and run_dir is None:
        raise ValueError("`resume` needs the run's folder. Name it with --run-dir.")
    images = load_image_data(data, max_train=max_train or (10_000 if data else None), resolution=resolution, seed=seed)
    space = ChainSpace(num_classes=images.num_classes, in_channels=images.channels, resolution=images.resolution)
    recipe = training(epochs or (5 if data else 10))
    wanted = Pareto(OBJECTIVES, constraints := [Constraint.parse(text) for text in constraint or ()])
    if unknown := [name for name in wanted.metrics if name not in METRICS]:
        raise ValueError(f"`constraint` must limit one of {', '.join(METRICS)}, got {unknown[0]!r}.")
    bred = Pareto(OBJECTIVES[:1], constraints) if only_accuracy else wanted
    strategy = AsynchronousEvolution(
        space,
        bred,
        num_evaluations=evaluations,
        generator=np.random.default_rng(seed),
        population_size=population_size,
        tournament_size=min(5, population_size),
        has_ageing=has_ageing,
    )
    goals = ", ".join(f"{o.direction} {o.name}" for o in bred.objectives)
    limits = "".join(f", {limit}" for limit in constraints)
    for line in (
        images.notice,
        f"{images.name}: {len(images.train)} training images, {evaluations} chains; {goals}{limits}",
    ):
        if line:
            console.print(line, highlight=False, soft_wrap=True)
    if dry_run:
        return
    run = RunDirectory.create(
        run_dir or Path("runs") / time.strftime("evolve-%Y%m%d-%H%M%S"),
        method="evolution",
        preset="menndl",
        configuration={
            "space": space.name,
            "evaluations": evaluations,
            "population_size": population_size,
            "only_accuracy": only_accuracy,
            "ageing": has_ageing,
            "constraints": [str(limit) for limit in constraints],
            "epochs": recipe.epochs,
        },
        seed=seed,
        data=images.describe(),
        resume=resume,
    )
    run.update(status="running", command=["python", *sys.argv])
    console.print(f"Run directory: {run.path}", highlight=False, soft_wrap=True)
    progress = StageProgress(console, is_quiet=no_progress)
    try:
        with ray_session(ClusterConfig(address=address)), progress.shown():
            placed = Workers.available(workers)
            archive = run_search(
                strategy,
                partial(evaluator, space, images, recipe, seed, placed.device),
                workers=placed,
                run=run,
                formulation=wanted,
                timeout_s=timeout,
                on_evaluation=Counter(progress, evaluations, len(run.evaluations())),
            )
    except BaseException as error:
        run.update(status="interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        if not isinstance(error, (ValueError, ConnectionError)):
            console.print(f"Go on with the same command and --resume --run-dir {run.path}", soft_wrap=True)
        raise
    rows = trade_off_rows(archive, quality_weight=quality_weight, also=("test_accuracy",)) if archive.front else []
    run.write_front([o.to_json() for o in OBJECTIVES])
    run.update(status="done", trade_offs=rows)
    write_report(run)
    if rows:
        console.print(trade_off_table(rows))
    console.print(
        f"{len(archive.front)} networks on the front of {archive.num_evaluations} evaluations", highlight=False
    )
    console.print(f"Report: {run.path / 'report.html'}", highlight=False, soft_wrap=True)
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1))


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


def evaluator(space: ChainSpace, images: ImageData, recipe: TrainingConfig, seed: int, device: str) -> NetworkEvaluator:
    """Return what trains and measures candidates, in a worker."""
    torch.set_num_threads(1)
    return NetworkEvaluator(space, images, NetworkEvaluationConfig(training=recipe, seed=seed), device=device)


class Counter:
    """Moves the progress bar."""

    def __init__(self, progress: StageProgress, total: int, done: int) -> None:
        self._bar, self._done, self._new, self._best = progress.bar("search", total), done, 0, 0.0

    def __call__(self, trial: Trial, evaluation: Evaluation) -> None:
        """Count a candidate."""
        self._done, self._new = self._done + 1, self._new + 1
        self._best = max(self._best, evaluation.metrics.get("accuracy", 0.0) if evaluation.status == "ok" else 0.0)
        self._bar.move(self._done, f"{self._new / self._bar.seconds:.2f} candidates/s, best {self._best:.1%}")


if __name__ == "__main__":
    sys.exit(exit_status(main))
