"""The files of a checkpoint: how they are written and read, and whether they are whole."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow.fs import FileSystem
from ray.tune import Checkpoint
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, load_file, save

from nasray.reading import build, parse_json, read_json, reason
from nasray.records.files import write_bytes_whole, writing
from nasray.tune.storage_folder import StorageFolder

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


@contextlib.contextmanager
def fetched(path: str | None, filesystem: FileSystem | None = None) -> Iterator[Path | None]:
    """Yield a folder of this machine with the files of a checkpoint, for as long as the block lasts.

    A remote one is copied to a temporary folder, once for all processes of a machine that want it at the same time.

    Args:
        path: Of the checkpoint; None yields None.
        filesystem: What the path is on; None for this machine's.
    """
    if path is None:
        yield None
        return
    with Checkpoint(path, filesystem).as_directory() as folder:
        yield Path(folder)


def has_weights(folder: Path) -> bool:
    """Return whether a folder holds weights whose file is not cut short."""
    try:
        with safe_open(folder / WEIGHTS, framework="numpy"):  # checks the length that its head names
            return True
    except (OSError, SafetensorError):
        return False


def is_whole(folder: StorageFolder) -> bool:
    """Return whether the files of a checkpoint are there and not torn.

    Each is read at once: object stores take their time over every request.

    Raises:
        OSError: If a remote storage does not answer. That says nothing of the checkpoint, which may be whole.
    """
    names = folder.files()
    try:
        if PROGRESS in names:
            parse_json(folder.read(PROGRESS))
            return True
        if STATE not in names:
            return False
        with zipfile.ZipFile(io.BytesIO(folder.read(STATE))) as archive:
            if archive.testzip() is not None:
                return False
        if WEIGHTS in names:
            load(folder.read(WEIGHTS))
    except OSError as error:
        if error.errno is None:
            raise
        return False
    except (ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, SafetensorError):
        return False
    return True
