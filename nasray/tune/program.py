"""What the programs have in common: their options, and how a run starts and ends."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nasray.carbon.bill import Bill, duration
from nasray.carbon.ledger import ENERGY_FILE, EnergyLedger
from nasray.causes import failure_causes
from nasray.records import DiskError, RunDirectory
from nasray.redaction import hide_passwords
from nasray.tune.disk_space import LIMIT, disk_error, room_kept
from nasray.tune.energy.settings import EnergySettings
from nasray.tune.failure_limit import failure_table
from nasray.tune.problems.problem import Problem
from nasray.tune.resume_command import API, started_program
from nasray.tune.run_storage import NAME as STORAGE_NAME
from nasray.tune.run_storage import RunStorage

_IN_RAYS_FILES = (
    "The password in --storage-path also gets into Ray's own files on that storage. Better leave it out, and give "
    "every node its rights by a role or its environment."
)

RunDir = Annotated[Path | None, typer.Option(help="Folder of the run; by default a new one under runs/.")]
NumWorkers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Candidates at a time; by default all GPUs or processors.")
]
Address = Annotated[
    str | None, typer.Option(help="Ray cluster: auto or its address; by default Ray starts on this machine.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --run-dir.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, say what would be done and what it would cost, and stop.")
]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="Show no progress.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds that a candidate may take.")]
MaxFailures = Annotated[
    int | None,
    typer.Option(
        "--max-failures",
        min=1,
        help="Candidates that may fail in a row until the search ends; by default 10, or three for each worker.",
    ),
]
MaxDiskGb = Annotated[
    float | None,
    typer.Option("--max-disk-gb", help="GB that the run directory may take; a run that would take more is ended."),
]
StoragePath = Annotated[
    str | None,
    typer.Option(
        "--storage-path",
        help="Storage that all nodes reach, as s3://bucket/runs: the run's checkpoints and a copy of its records, in a "
        "folder of the run's name. --run-dir is then a folder of this machine, and limits and bills of the disk mean "
        "that folder alone.",
    ),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the printed figures here as JSON.")]


def new_run_path(method: str) -> Path:
    """Return a new folder for a run that was not given one."""
    return Path("runs") / time.strftime(f"{method}-%Y%m%d-%H%M%S")


def check_common(
    *,
    json_file: Path | None,
    resume: bool,
    run_dir: Path | None,
    storage_path: str | None = None,
    timeout: float | None = None,
) -> None:
    """Check options that every program has, before anything is read.

    Raises:
        ValueError: If the file or the run's folder cannot be used, there is nothing to resume, another process writes
            the run, or a time is not positive.
    """
    if timeout is not None and not timeout > 0:
        raise ValueError(f"`timeout` must be positive, got {timeout}. Give seconds, such as 600.")
    if json_file is not None:
        _check_writable(json_file)
    if resume and run_dir is None:
        raise ValueError("`resume` needs the run's folder. Name it with --run-dir.")
    is_fetched = resume and storage_path is not None  # the folder may have to be brought back first
    if run_dir is not None and not is_fetched:
        RunDirectory.check(run_dir, resume=resume)


def _check_writable(file: Path) -> None:
    """Refuse a file that could not be written after the search."""
    folder = file.resolve().parent
    if not folder.is_dir():
        raise ValueError(f"`json` must name a file in a folder that exists, got {file}. Make the folder first.")
    if file.is_dir() or not os.access(file if file.exists() else folder, os.W_OK):
        raise ValueError(f"`json` must name a file that can be written, got {file}. Name another one.")


def open_storage(console: Console, storage_path: str | None, run_dir: Path, *, resume: bool) -> RunStorage | None:
    """Return a run's folder on the storage that was named, if one was; to resume, bring the run directory back first.

    Raises:
        ValueError: As `RunStorage.open` says.
    """
    if storage_path is None:
        return None
    if hide_passwords(storage_path) != storage_path:
        say(console, _IN_RAYS_FILES)
    return RunStorage.open(storage_path, run_dir, resume=resume)


def say(console: Console, *lines: str | None) -> None:
    """Print lines as they are, whatever the width of the terminal; None prints nothing."""
    for line in lines:
        if line:
            console.print(line, highlight=False, soft_wrap=True, markup=False)


def announce(
    console: Console,
    problem: Problem,
    energy: EnergySettings,
    *,
    num_evaluations: int,
    num_workers: int | None,
    address: str | None,
    is_resumed: bool,
) -> Bill:
    """Print what a search will probably cost, and return it."""
    cpus, gpus = local_resources()
    if address is not None:
        say(console, "The cluster's workers are taken to be as fast as this machine.")
    elif num_workers is not None and num_workers > cpus:
        raise ValueError(f"`workers` must be at most {cpus}, the processors of this machine, got {num_workers}.")
    # Several workers on one GPU share it, so that they are no faster than one.
    workers = min(num_workers or gpus, gpus) if gpus else num_workers or cpus
    bill = problem.bill(
        energy,
        num_evaluations=num_evaluations,
        num_workers=workers,
        device="cuda" if gpus else "cpu",
    )
    say(console, *bill.lines(energy.budget, is_resumed=is_resumed))
    return bill


def local_resources() -> tuple[int, int]:
    """Return the processors and GPUs of this machine that this process may use, as Ray counts them."""
    import torch
    from ray._private.utils import get_num_cpus

    return int(get_num_cpus()), torch.cuda.device_count()


@contextmanager
def recorded(
    run: RunDirectory,
    console: Console,
    bill: Bill | None = None,
    *,
    max_disk_gb: float | None = None,
    storage: RunStorage | None = None,
) -> Iterator[None]:
    """Note in the record how the block ends, and what it spent; where it could go on, say with which options.

    What candidates failed of is shown as a table, if any did.

    Args:
        run: The run directory.
        console: Where to say it.
        bill: What was announced.
        max_disk_gb: What the run directory may take, in GB; None for all that there is.
        storage: Where a copy of the records is kept; whoever writes more of them afterwards calls `finish` then.

    Raises:
        DiskError: In place of an error that means that the disk takes no more.
        RunError: If the storage cannot be written at the beginning.
    """
    run.update(
        status="running",
        command=["python", *map(hide_passwords, sys.argv)],
        program=started_program(),
        **{LIMIT: None if max_disk_gb is None else max_disk_gb * 1e9},
        **({"bill": bill.to_json()} if bill else {}),
    )
    say(console, f"Run directory: {run.path}", f"Storage: {storage.folder}" if storage else None)
    if storage is not None:
        storage.keep(run)
    elif run.run.get(STORAGE_NAME):
        run.add_notice("Resumed without --storage-path: what unfinished trials have there is not used.")
    try:
        with room_kept(run.path):
            yield
    except BaseException as error:
        told = disk_error(error, run.path)
        is_resumable = told is not None or isinstance(error, KeyboardInterrupt)
        with suppress(DiskError):  # then the record says that the run goes on, as if it had been killed
            run.update(status="interrupted" if is_resumable else "failed", spent=spent_lines(run, bill))
        if told is not None or not isinstance(error, (ValueError, ConnectionError)):
            say(console, f"Not finished. Go on with {_how_to_go_on(run)}")
        if told is not None:
            raise told from error
        raise
    else:
        run.update(spent=spent_lines(run, bill))
    finally:
        if storage is not None:
            with suppress(DiskError):  # what it notes if the storage is away; another error is on its way
                storage.push()
        if causes := failure_causes(run.evaluations()):
            console.print(failure_table(causes))


def _how_to_go_on(run: RunDirectory) -> str:
    if run.run.get("preset") == API:
        return f'the same call of nasray.search and run_dir="{run.path}", resume=True'
    folder = shlex.quote(str(run.path))
    command = f"nasray resume {folder}, or " if run.run.get("program") else ""
    return f"{command}the same command and --resume --run-dir {folder}"


def spent_lines(run: RunDirectory, bill: Bill | None = None) -> list[str]:
    """Return what a run has spent by its energy account, for people; nothing if it has none."""
    if not (run.path / ENERGY_FILE).exists():
        return []
    ledger = EnergyLedger.of_folder(run.path)
    energy_j, announced = ledger.energy_j, "" if bill is None else f" (announced {bill.short()})"
    if energy_j is None:
        return [f"Spent: {duration(ledger.hours)}, energy unknown{announced}"]
    carbon_kg = ledger.carbon_g(energy_j) / 1e3
    figures = f"{duration(ledger.hours)}, {energy_j / 3.6e6:.3g} kWh {ledger.quality}, {carbon_kg:.3g} kg CO2e"
    return [f"Spent: {figures}{announced}"]
