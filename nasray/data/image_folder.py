"""Image folders in the layout of ImageNet: train/<class>/<image> and val/<class>/<image>."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from nasray.data import decoding
from nasray.data.errors import DataError
from nasray.data.folder_split import FolderSplit
from nasray.data.image_data import ImageData
from nasray.data.selection import LoadOptions, cut

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_RESOLUTION = 224
_HOLDOUT = 10_000
_MAX_NAMES_IN_ERROR = 5


def is_image_folder(root: Path) -> bool:
    """Tell whether `root` holds a train or a val folder."""
    return (root / "train").is_dir() or (root / "val").is_dir()


def load_image_folder(root: Path, options: LoadOptions) -> ImageData:
    """List the images below `root`; none is opened.

    Args:
        root: A folder that holds `train` and `val`, each with one folder per class.
        options: What the caller chose.

    Returns:
        The data set; `val` is its test part.

    Raises:
        DataError: If a part is missing, a class is empty, or `val` has a class that `train` lacks.
    """
    train_classes, val_classes = _class_names(root / "train"), _class_names(root / "val")
    unknown = sorted(set(val_classes) - set(train_classes))
    if unknown:
        raise DataError(
            f"`{root / 'val'}` must hold classes of {root / 'train'} only, got {_shown(unknown)}. "
            "Remove these folders, or complete the training images."
        )
    resolution = options.resolution or _RESOLUTION
    train = _list_images(root / "train", train_classes, resolution)
    absent = sorted(set(range(len(train_classes))) - set(train.labels_N.tolist()))
    if absent:
        names = [train_classes[label] for label in absent]
        raise DataError(
            f"Every class folder of `{root / 'train'}` must hold images ({', '.join(decoding.SUFFIXES)}), "
            f"got none in {_shown(names)}. Remove or fill these folders."
        )
    splits = cut(
        train,
        _list_images(root / "val", train_classes, resolution),
        options=options,
        num_classes=len(train_classes),
        default_holdout=_HOLDOUT,
    )
    return ImageData(
        name="imagenet-folder",
        train=splits[0],
        holdout=splits[1],
        test=splits[2],
        num_classes=len(train_classes),
        channels=3,
        resolution=resolution,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        class_names=tuple(train_classes),
    )


def _class_names(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if not names:
        found = "none" if folder.is_dir() else "no such folder"
        raise DataError(
            f"`{folder}` must hold one folder of images per class, got {found}. Add train/ and val/ folders."
        )
    return names


def _list_images(root: Path, class_names: Sequence[str], resolution: int) -> FolderSplit:
    paths: list[str] = []
    labels: list[int] = []
    for label, class_name in enumerate(class_names):
        folder = root / class_name
        names = sorted(_image_names(folder)) if folder.is_dir() else []
        paths += [f"{class_name}/{name}" for name in names]
        labels += [label] * len(names)
    return FolderSplit(root=root, paths=paths, labels_N=torch.tensor(labels, dtype=torch.int64), resolution=resolution)


def _image_names(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(decoding.SUFFIXES) and not entry.name.startswith("."):
                yield entry.name


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_NAMES_IN_ERROR]) + (", ..." if len(names) > _MAX_NAMES_IN_ERROR else "")
