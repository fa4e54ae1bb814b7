"""Checkpoints of a trial on disk: which is the newest whole one, and which are kept.

The rule, for the run as a whole: of each unfinished trial the newest whole checkpoint and the one before it, of a
finished one none, as its result and its weights are on the record. Weights of trained networks and of supernets stay:
exports, measurements and a resumed run are made from them.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from nasray.reading import build, read_json, reason
from nasray.records import RunDirectory
from nasray.records.files import write_bytes_whole, writing

_REMOVED = ".removed-"
_NUM_KEPT = 2

STATE, WEIGHTS, PROGRESS = "state.pt", "weights.safetensors", "progress.json"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a training state (tensors, numbers, texts).

    Raises:
        nasray.records.RunError: If it cannot be written.
    """
    content = io.BytesIO()  # torch itself does not say why it could not write a file
    torch.save(state, content)
    with writing(folder / STATE):
        (folder / STATE).write_bytes(content.getbuffer())


def load_state(folder: Path) -> dict[str, Any]:
    """Read what `save_state` wrote; nothing in the file is executed.

    Raises:
        ValueError: If the file is damaged or asks for anything else than tensors, numbers and texts.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of protocols that `save_state` does not write
            state: dict[str, Any] = torch.load(folder / STATE, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:  # whose message tells how to let the file run code
        raise _damaged(folder / STATE, "it asks for more than tensors, numbers and texts") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise _damaged(folder / STATE, reason(error)) from error
    if not isinstance(state, dict):
        raise _damaged(folder / STATE, f"a {type(state).__name__} in place of a state")
    return state


def save_weights(folder: Path, weights: dict[str, np.ndarray]) -> None:
    """Write weights, which are on the disk as a whole when this returns.

    Raises:
        nasray.records.RunError: If they cannot be written.
    """
    write_bytes_whole(folder / WEIGHTS, save(weights))


def load_weights(folder: Path) -> dict[str, np.ndarray]:
    """Read what `save_weights` wrote.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        weights: dict[str, np.ndarray] = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise _damaged(folder / WEIGHTS, reason(error)) from error
    return weights


def save_progress(folder: Path, progress: dict[str, Any]) -> None:
    """Write a search's state as JSON.

    Raises:
        nasray.records.RunError: If it cannot be written.
    """
    with writing(folder / PROGRESS):
        (folder / PROGRESS).write_text(json.dumps(progress, allow_nan=False))


def load_progress(folder: Path) -> dict[str, Any]:
    """Read what `save_progress` wrote.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        return build(dict[str, Any], read_json(folder / PROGRESS))
    except (OSError, ValueError) as error:
        raise _damaged(folder / PROGRESS, reason(error)) from error


def _damaged(path: Path, cause: str) -> ValueError:
    return ValueError(f"{path} is damaged, or is no checkpoint ({cause}). Remove this checkpoint's folder.")


def newest_checkpoint(storage: Path, stage: str, name: str) -> str | None:
    """Return the newest checkpoint of a trial that can be read whole, from any attempt at its stage.

    Ray's own restore goes back to its last snapshot of the whole experiment, which lags behind the trials and is
    not written atomically; the trials' checkpoints are looked at one by one instead.

    Args:
        storage: Folder of Ray's state, with one folder per attempt named `stage-<attempt>`.
        stage: Name of the stage.
        name: Name of the trial.
    """
    whole, _ = _newest_whole(storage, stage, name)
    return whole


def checkpoints_to_resume(run: RunDirectory, storage: Path, stage: str, names: Iterable[str]) -> dict[str, str]:
    """Return the newest whole checkpoint of each trial that has one, and note in the record what is lost.

    Args:
        run: Where it is noted, and which trials were begun.
        storage: See `newest_checkpoint`.
        stage: Name of the stage.
        names: Trials that are about to start.
    """
    begun: Mapping[str, list[str]] = run.run.get("begun", {})
    found, names = dict[str, str](), list(names)
    for name in names:
        whole, num_torn = _newest_whole(storage, stage, name)
        if whole is not None:
            found[name] = whole
            if num_torn:
                run.add_notice(
                    f"{num_torn} damaged checkpoint(s) of {name} ({stage}) are passed over: it goes on from {whole}."
                )
        elif name in begun.get(stage, []):
            run.add_notice(f"{name} ({stage}) starts anew: it was begun before, but has no whole checkpoint.")
    run.update(begun={**begun, stage: sorted({*begun.get(stage, []), *names})})
    return found


def has_weights(folder: Path) -> bool:
    """Return whether a folder holds weights whose file is not cut short."""
    try:
        with safe_open(folder / WEIGHTS, framework="numpy"):  # checks the length that its head names
            return True
    except (OSError, SafetensorError):
        return False


def remove_finished(storage: Path, stage: str, name: str) -> None:
    """Remove all checkpoints of a trial that is finished, once its result and weights are on the disk.

    Args:
        storage: See `newest_checkpoint`.
        stage: Name of the stage.
        name: Name of the trial.
    """
    for folder in _checkpoints_of_attempts(storage, stage, name):
        _remove(folder)
    # With what Ray Train knows of them: it would look for those that it finds listed.
    _remove(_data_parallel(storage, stage, name))


def remove_outdated(storage: Path, stage: str, name: str) -> None:
    """Remove the checkpoints of an unfinished trial but the newest whole one and the one before it.

    Call it while no attempt runs: Ray itself keeps as many of the attempt that does, and Ray Train of its own.

    Args:
        storage: See `newest_checkpoint`.
        stage: Name of the stage.
        name: Name of the trial.
    """
    num_whole = 0
    for folder in _checkpoints_of_attempts(storage, stage, name):
        if num_whole < _NUM_KEPT and _is_whole(folder):
            num_whole += 1
        else:
            _remove(folder)


def remove_leftovers(storage: Path) -> None:
    """Remove what a process left that was killed while it removed checkpoints."""
    for folder in [*storage.glob(f"*/*/{_REMOVED}*"), *storage.glob(f"train/{_REMOVED}*")]:
        shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a folder at once for whoever looks for checkpoints, then from the disk; one that stays is no harm."""
    gone = folder.with_name(f"{_REMOVED}{folder.name}")
    try:
        folder.rename(gone)
    except OSError:  # missing, or removed before but for some files
        gone = folder
    shutil.rmtree(gone, ignore_errors=True)


def _newest_whole(storage: Path, stage: str, name: str) -> tuple[str | None, int]:
    """Return the newest whole checkpoint of a trial, and how many newer ones are not whole."""
    num_torn = 0
    for folder in _checkpoints(storage, stage, name):
        if _is_whole(folder):
            return str(folder), num_torn
        num_torn += 1
    return None, num_torn


def _checkpoints(storage: Path, stage: str, name: str) -> Iterator[Path]:
    """Yield a trial's checkpoints, the newest first."""
    yield from _checkpoints_of_attempts(storage, stage, name)
    # Written by the workers of a data-parallel training, which has no checkpoint of its own before its end.
    yield from sorted(_data_parallel(storage, stage, name).glob("checkpoint_*"), reverse=True)


def _checkpoints_of_attempts(storage: Path, stage: str, name: str) -> Iterator[Path]:
    attempts = sorted(storage.glob(f"{stage}-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for attempt in attempts:
        yield from sorted((attempt / name).glob("checkpoint_*"), reverse=True)


def _data_parallel(storage: Path, stage: str, name: str) -> Path:
    return storage / "train" / f"train-{stage}-{name}"


def next_attempt(storage: Path, stage: str) -> str:
    """Return a name for a new attempt at a stage."""
    numbers = [int(path.name.rpartition("-")[2]) for path in storage.glob(f"{stage}-*")]
    return f"{stage}-{max(numbers, default=0) + 1}"


def _is_whole(folder: Path) -> bool:
    """Whether the files of a checkpoint are there and not torn."""
    try:
        if (folder / PROGRESS).exists():
            read_json(folder / PROGRESS)
            return True
        with zipfile.ZipFile(folder / STATE) as archive:
            if archive.testzip() is not None:
                return False
        if (folder / WEIGHTS).exists():
            load_file(folder / WEIGHTS)
    except (OSError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, SafetensorError):
        return False
    return True
