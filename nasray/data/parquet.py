"""CIFAR-10, CIFAR-100 and other small images in Hugging Face's parquet layout."""

from __future__ import annotations

from pathlib import Path

from nasray.data.cifar import CIFAR10, CIFAR100, CIFAR_HOLDOUT, CIFAR_SHIFT_FRACTION, CifarFormat
from nasray.data.errors import DataError
from nasray.data.image_data import ImageData
from nasray.data.memory import memory_data
from nasray.data.parquet_files import part_files
from nasray.data.parquet_part import ParquetPart, read_part
from nasray.data.selection import LoadOptions

_CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

UNKNOWN_NOTICE = (
    "The parquet files are neither CIFAR-10 nor CIFAR-100: channel means are measured on the training images, "
    "and training shifts images by up to an eighth of their side and mirrors them."
)


def is_parquet_folder(folder: Path) -> bool:
    """Tell whether `folder` holds train or test parquet files."""
    return bool(part_files(folder, "train") or part_files(folder, "test"))


def load_parquet(root: Path, options: LoadOptions) -> ImageData:
    """Load `train` and `test` parquet files; only the images that `options` keep are decoded.

    Args:
        root: The folder that holds the files.
        options: What the caller chose.

    Returns:
        The data set, with three channels.

    Raises:
        DataError: If files are missing, incomplete or malformed.
    """
    train, test = read_part(root, "train"), read_part(root, "test")
    cifar = _recognise(train)
    return memory_data(
        train,
        test,
        name=cifar.name if cifar else "parquet",
        class_names=_class_names(train, cifar),
        options=options,
        default_holdout=CIFAR_HOLDOUT,
        shift_fraction=CIFAR_SHIFT_FRACTION,
        flip=True,
        mean=cifar.mean if cifar else None,
        std=cifar.std if cifar else None,
        notice=None if cifar else UNKNOWN_NOTICE,
    )


def _recognise(train: ParquetPart) -> CifarFormat | None:
    """Tell the CIFAR data sets by their column names and, where the file has them, class names."""
    if train.label_column == "fine_label":
        return CIFAR100
    if train.class_names:
        return CIFAR10 if list(train.class_names) == _CIFAR10_NAMES else None
    return CIFAR10 if train.image_column == "img" and _num_labels(train) == CIFAR10.num_classes else None


def _class_names(train: ParquetPart, cifar: CifarFormat | None) -> tuple[str, ...]:
    num_classes = cifar.num_classes if cifar else _num_labels(train)
    return train.class_names or tuple(str(label) for label in range(num_classes))


def _num_labels(train: ParquetPart) -> int:
    num_labels = int(train.labels_N.max()) + 1 if len(train.labels_N) else 0
    if num_labels > len(train.labels_N):
        raise DataError(
            f"`{train.label_column}` in {train.files[0]} must number the classes from 0, got {num_labels - 1} "
            f"among {len(train.labels_N):,} images. Correct the labels, or obtain the data set again."
        )
    return num_labels
