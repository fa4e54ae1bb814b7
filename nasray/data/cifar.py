"""CIFAR-10 and CIFAR-100 as published: the "python version", a folder of pickled batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nasray.data.errors import DataError
from nasray.data.image_data import ImageData
from nasray.data.memory import memory_data
from nasray.data.safe_pickle import read_array_pickle
from nasray.data.selection import LoadOptions
from nasray.data.splits import MemorySplit

CIFAR_HOLDOUT = 5_000
CIFAR_SHIFT_FRACTION = 4 / 32
_SIDE_PX = 32
_NUM_VALUES = 3 * _SIDE_PX * _SIDE_PX


@dataclass(frozen=True, kw_only=True)
class CifarFormat:
    """What tells CIFAR-10 from CIFAR-100.

    Attributes:
        name: Name of the data set.
        num_classes: Number of classes.
        mean: Mean of each channel over the training images, of values in 0..1.
        std: Standard deviation of each channel over the training images, of values in 0..1.
        train_files: The training batches of the published archive.
        test_file: The test batch.
        meta_file: The file that names the classes.
        label_key: Where a batch holds its labels.
        names_key: Where the meta file holds the names.
    """

    name: str
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_files: tuple[str, ...]
    test_file: str
    meta_file: str
    label_key: str
    names_key: str

    def is_in(self, folder: Path) -> bool:
        """Tell whether `folder` holds any batch of this data set, complete or not."""
        return any((folder / name).is_file() for name in (*self.train_files, self.test_file))


CIFAR10 = CifarFormat(
    name="cifar10",
    num_classes=10,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    train_files=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test_file="test_batch",
    meta_file="batches.meta",
    label_key="labels",
    names_key="label_names",
)
CIFAR100 = CifarFormat(
    name="cifar100",
    num_classes=100,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    train_files=("train",),
    test_file="test",
    meta_file="meta",
    label_key="fine_labels",
    names_key="fine_label_names",
)


def load_cifar_batches(folder: Path, options: LoadOptions, *, cifar: CifarFormat) -> ImageData:
    """Load the published python batches.

    Args:
        folder: The folder that holds the batches.
        options: What the caller chose.
        cifar: Which of the two data sets it is.

    Returns:
        The data set.

    Raises:
        DataError: If a batch is missing or malformed.
    """
    return memory_data(
        _read_batches(folder, cifar.train_files, cifar),
        _read_batches(folder, (cifar.test_file,), cifar),
        name=cifar.name,
        class_names=_read_class_names(folder / cifar.meta_file, cifar),
        options=options,
        default_holdout=CIFAR_HOLDOUT,
        shift_fraction=CIFAR_SHIFT_FRACTION,
        flip=True,
        mean=cifar.mean,
        std=cifar.std,
    )


def _read_batches(folder: Path, names: Sequence[str], cifar: CifarFormat) -> MemorySplit:
    batches = [_read_batch(folder / name, cifar.label_key) for name in names]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    return MemorySplit(
        images_NCHW=torch.from_numpy(images.reshape(-1, 3, _SIDE_PX, _SIDE_PX)), labels_N=torch.from_numpy(labels)
    )


def _read_batch(path: Path, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    batch = read_array_pickle(path)
    images, labels = batch.get("data"), batch.get(label_key)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (_NUM_VALUES,):
        raise DataError(
            f"`data` in {path} must be a uint8 array of {_NUM_VALUES} columns, got {_kind(images)}. "
            "Extract the published archive again."
        )
    is_integers = isinstance(labels, list) and all(type(label) is int for label in labels)
    if not isinstance(labels, list) or not is_integers or len(labels) != len(images):
        raise DataError(
            f"`{label_key}` in {path} must be a list of {len(images)} integers, got {_kind(labels)}. "
            "Extract the published archive again."
        )
    return images, np.asarray(labels, dtype=np.int64)


def _read_class_names(path: Path, cifar: CifarFormat) -> list[str]:
    if not path.exists():
        return [str(label) for label in range(cifar.num_classes)]
    names = read_array_pickle(path).get(cifar.names_key)
    if not isinstance(names, list) or len(names) != cifar.num_classes:
        raise DataError(
            f"`{cifar.names_key}` in {path} must be a list of {cifar.num_classes} names, got {_kind(names)}. "
            "Extract the published archive again."
        )
    return [str(name) for name in names]


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"a list of {len(value)}" if isinstance(value, list) else type(value).__name__
