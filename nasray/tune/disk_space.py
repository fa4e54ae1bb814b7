"""Room on the disk: asked for before a run, watched while it goes on, and told in one sentence when there is none."""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune

from nasray.carbon.bill import Bill
from nasray.records import DiskError, RunDirectory
from nasray.records.disk import DISK_ERRORS, RESERVE_BYTES, give_up_reserve, has_reserve, is_disk_error, keep_reserve
from nasray.records.files import cannot_write, writing
from nasray.tune.crash_watch import kept_error

LIMIT = "max_disk_bytes"
"""Where a run's limit stands in `run.json`."""

_TEMPORARY_BYTES = 100e6
"""What Ray itself takes of the disk for temporary files, beside checkpoints and logs of trials on their way."""
_LOOK_S, _GB = 5.0, 1e9
_TEXTS = (
    *map(os.strerror, DISK_ERRORS),
    # What does not pass the operating system's error on: SQLite, and torch's writer of exported programs.
    "database or disk is full",
    "disk I/O error",
    "PytorchStreamWriter failed writing",
)
_SENTENCE = re.compile(r"DiskError: (.+)")
_RAYS_LOGGERS = ("tune.execution.tune_controller", "tune.execution.experiment_state", "tune.tune", "tune")


class DiskWatch(tune.Callback, tune.Stopper):
    """Ends the trials of an experiment when the disk takes no more, or the run has used what it may.

    Give it to Ray as a callback and as a stopper, within a block of `telling`. A trial that could not write is
    not tried again; what the trials had reported is on the record, and their checkpoints are where they go on from.

    Args:
        run: The run, whose reserve (see `nasray.records.disk`) tells whether any write of its own found no room.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._folder, self._limit = run.path, run.run.get(LIMIT)
        self._had_reserve, self._next_look_s = has_reserve(run.path), 0.0
        self._error: DiskError | None = None

    # Ray pickles callbacks and stoppers for a restore that we never make.
    def __getstate__(self) -> dict[str, Any]:
        return {}

    def note(self, error: DiskError) -> None:
        """Have the trials ended for a reason of this process."""
        give_up_reserve(self._folder)
        self._error = self._error or error

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See whether a trial that Ray would start again could not write."""
        # What Ray keeps here; on the storage, where it looks itself, that may come later.
        error = kept_error(trial) or trial.get_pickled_error() or trial.get_error()
        if error is not None and (told := disk_error(error, self._folder)):
            self.note(told)
            # Ray has it save a last time as it stops, and would start it again when that fails, too.
            trial.max_failures = 0

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See whether a trial failed because it could not write."""
        self.on_trial_recover(iteration, trials, trial)

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether to end one trial: all are ended together."""
        return False

    def stop_all(self) -> bool:
        """Whether to end all trials."""
        if self._error is None and self._had_reserve and not has_reserve(self._folder):
            self.note(DiskError(str(cannot_write(self._folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))))
        if self._error is None and self._limit is not None and time.monotonic() >= self._next_look_s:
            self._next_look_s = time.monotonic() + _LOOK_S
            if (used := folder_bytes(self._folder)) > self._limit:
                self.note(_limit_reached(self._folder, used, self._limit))
        return self._error is not None

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Raise what ended the trials of the block, if it was the disk, whatever that has looked like to others.

        Raises:
            DiskError: If so.
        """
        try:
            yield
        except Exception as error:
            if self.stop_all() and self._error is not None:
                raise self._error from error
            raise
        self.raise_if_full()

    def raise_if_full(self) -> None:
        """Raise what is to end the experiment, if it is the disk.

        Raises:
            DiskError: If so.
        """
        if self.stop_all() and self._error is not None:
            raise self._error


def disk_error(error: BaseException | str, folder: Path) -> DiskError | None:
    """Return what an error says about the disk, in one sentence; None if it is about something else.

    Args:
        error: Of this process, of a trial, or what Ray made of either: often only a text.
        folder: The run directory, for errors that do not say what could not be written.
    """
    cause = error if isinstance(error, BaseException) else None
    for _ in range(20):  # a chain of causes ends
        if cause is None:
            break
        if isinstance(cause, DiskError):
            return cause
        if isinstance(cause, OSError) and is_disk_error(cause):
            told = cannot_write(Path(cause.filename or folder), cause)
            return told if isinstance(told, DiskError) else None
        cause = getattr(cause, "cause", None) or cause.__cause__ or cause.__context__
    text = str(error)
    if sentence := _SENTENCE.search(text):
        return DiskError(sentence[1].strip())
    found = next((part for part in _TEXTS if part.lower() in text.lower()), None)
    return None if found is None else DiskError(_no_room(folder, found))


@contextmanager
def room_kept(folder: Path) -> Iterator[None]:
    """Set room aside in a run directory for its last records, and keep Ray from printing what is told in a sentence.

    Raises:
        DiskError: If there is no room even for that.
    """
    with writing(folder):
        keep_reserve(folder)
    loggers = [logging.getLogger(f"ray.{name}") for name in _RAYS_LOGGERS]
    for logger in loggers:
        logger.addFilter(_is_of_interest)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_of_interest)
        give_up_reserve(folder)


def check_room(bill: Bill, run_dir: Path | None, *, max_disk_gb: float | None = None) -> None:
    """Check that a run will probably find room: in its directory, under its limit, and for temporary files.

    What it takes at its peak counts, with its reserve; what a run that goes on has already written counts as written.

    Args:
        bill: What the run will probably take.
        run_dir: Its directory; None for a new one under `runs/`.
        max_disk_gb: What it may take, in GB.

    Raises:
        ValueError: If it will not.
    """
    folder = (run_dir or Path("runs")).absolute()
    total = bill.total
    needed = total.disk_bytes + total.checkpoint_bytes + RESERVE_BYTES
    if max_disk_gb is not None and not max_disk_gb * _GB >= needed:
        raise ValueError(
            f"`max-disk-gb` must be at least {_up(needed / _GB)}, what the run will probably take, got {max_disk_gb:g}."
        )
    left = float(max(RESERVE_BYTES, needed - folder_bytes(folder)))
    temporary = Path(tempfile.gettempdir())
    logs = sum(stage.disk_bytes for stage in bill.stages if stage.evaluations)
    on_its_way = _TEMPORARY_BYTES + total.checkpoint_bytes + logs
    if _existing(folder).stat().st_dev == temporary.stat().st_dev:
        left += on_its_way
    _check_free("run-dir", folder, left, "choose another --run-dir")
    _check_free("TMPDIR", temporary, on_its_way, "name another folder in TMPDIR")


def _check_free(name: str, folder: Path, needed: float, remedy: str) -> None:
    free = shutil.disk_usage(_existing(folder)).free
    if free < needed:
        raise ValueError(
            f"`{name}` must be on a disk with {_up(needed / 1e6)} MB free, what the run will probably take, got "
            f"{free / 1e6:.0f} MB free in {folder}. Free some, or {remedy}."
        )


def folder_bytes(folder: Path) -> int:
    """Return how much the files in a folder hold, in bytes; files that vanish meanwhile are left out."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(place, name).lstat().st_size
            except OSError:
                continue
    return total


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


def _up(number: float) -> str:
    """Return a number rounded up, to whole ones where it is large."""
    return f"{math.ceil(number):,}" if number >= 100 else f"{math.ceil(number * 1000) / 1000:g}"


def _no_room(folder: Path, cause: str) -> str:
    return (
        f"{folder}, or the disk for temporary files, cannot be written ({cause}). Free the disk and go on with "
        "--resume, or choose another --run-dir."
    )


def _limit_reached(folder: Path, used: float, limit: float) -> DiskError:
    return DiskError(
        f"{folder} has taken {used / _GB:.3g} GB of the {limit / _GB:.3g} that --max-disk-gb allows. Go on with "
        "--resume and a larger --max-disk-gb."
    )


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Whether what Ray logs says anything besides that the disk takes no more."""
    error = record.exc_info[1] if record.exc_info else None
    texts = (record.getMessage(), "" if error is None else str(error))
    return not any(part.lower() in text.lower() for part in _TEXTS for text in texts)
