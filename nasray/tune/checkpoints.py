"""Checkpoints of a trial on disk: which is the newest whole one."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

STATE, WEIGHTS, PROGRESS = "state.pt", "weights.safetensors", "progress.json"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a training state (tensors, numbers, texts)."""
    torch.save(state, folder / STATE)


def load_state(folder: Path) -> dict[str, Any]:
    """Read what `save_state` wrote; nothing in the file is executed."""
    state: dict[str, Any] = torch.load(folder / STATE, weights_only=True, map_location="cpu")
    return state


def save_weights(folder: Path, weights: dict[str, np.ndarray]) -> None:
    """Write weights."""
    save_file(weights, folder / WEIGHTS)


def load_weights(folder: Path) -> dict[str, np.ndarray]:
    """Read what `save_weights` wrote."""
    weights: dict[str, np.ndarray] = load_file(folder / WEIGHTS)
    return weights


def save_progress(folder: Path, progress: dict[str, Any]) -> None:
    """Write a search's state as JSON."""
    (folder / PROGRESS).write_text(json.dumps(progress, allow_nan=False))


def load_progress(folder: Path) -> dict[str, Any]:
    """Read what `save_progress` wrote."""
    progress: dict[str, Any] = json.loads((folder / PROGRESS).read_text())
    return progress


def newest_checkpoint(storage: Path, stage: str, name: str) -> str | None:
    """Return the newest checkpoint of a trial that can be read whole, from any attempt at its stage.

    Ray's own restore goes back to its last snapshot of the whole experiment, which lags behind the trials and is
    not written atomically; the trials' checkpoints are looked at one by one instead.

    Args:
        storage: Folder of Ray's state, with one folder per attempt named `stage-<attempt>`.
        stage: Name of the stage.
        name: Name of the trial.
    """
    attempts = sorted(storage.glob(f"{stage}-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for attempt in attempts:
        for folder in sorted((attempt / name).glob("checkpoint_*"), reverse=True):
            if _is_whole(folder):
                return str(folder)
    # Written by the workers of a data-parallel training, which has no checkpoint of its own before its end.
    for folder in sorted((storage / "train" / f"train-{stage}-{name}").glob("checkpoint_*"), reverse=True):
        if _is_whole(folder):
            return str(folder)
    return None


def next_attempt(storage: Path, stage: str) -> str:
    """Return a name for a new attempt at a stage."""
    numbers = [int(path.name.rpartition("-")[2]) for path in storage.glob(f"{stage}-*")]
    return f"{stage}-{max(numbers, default=0) + 1}"


def _is_whole(folder: Path) -> bool:
    """Whether the files of a checkpoint are there and not torn."""
    try:
        if (folder / PROGRESS).exists():
            json.loads((folder / PROGRESS).read_text())
            return True
        with zipfile.ZipFile(folder / STATE) as archive:
            if archive.testzip() is not None:
                return False
        if (folder / WEIGHTS).exists():
            load_file(folder / WEIGHTS)
    except (OSError, ValueError, zipfile.BadZipFile, SafetensorError):
        return False
    return True
