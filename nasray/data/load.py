"""Recognise what a `--data` path holds, and load it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from nasray.data.cifar import CIFAR10, CIFAR100, CifarFormat, load_cifar_batches
from nasray.data.digits import load_digits_data
from nasray.data.errors import DataError
from nasray.data.image_data import ImageData
from nasray.data.image_folder import is_image_folder, load_image_folder
from nasray.data.parquet import is_parquet_folder, load_parquet
from nasray.data.selection import LoadOptions

_MAX_NAMES_IN_ERROR = 5


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way in which data sets lie on disk.

    Attributes:
        description: What the folder holds, for people.
        is_in: Whether a folder looks like this, complete or not.
        load: Reads such a folder.
        may_be_below: Whether it is also looked for one folder below the one that is named.
    """

    description: str
    is_in: Callable[[Path], bool]
    load: Callable[[Path, LoadOptions], ImageData]
    may_be_below: bool = True


def _cifar_layout(cifar: CifarFormat, description: str) -> Layout:
    return Layout(description=description, is_in=cifar.is_in, load=functools.partial(load_cifar_batches, cifar=cifar))


LAYOUTS: dict[str, Layout] = {
    "cifar10": _cifar_layout(CIFAR10, "CIFAR-10's python batches (data_batch_1..5, test_batch)"),
    "cifar100": _cifar_layout(CIFAR100, "CIFAR-100's python batches (train, test, meta)"),
    "parquet": Layout(
        description="Hugging Face parquet files (train*.parquet, test*.parquet)",
        is_in=is_parquet_folder,
        load=load_parquet,
    ),
    "imagenet-folder": Layout(
        description="an image folder (train/<class>/*.JPEG, val/<class>/*.JPEG)",
        is_in=is_image_folder,
        load=load_image_folder,
        may_be_below=False,
    ),
}


def load_image_data(
    path: str | Path | None,
    *,
    holdout: int | None = None,
    resolution: int | None = None,
    max_train: int | None = None,
    max_test: int | None = None,
    seed: int = 0,
) -> ImageData:
    """Load an image classification data set.

    Args:
        path: A folder in one of the layouts of `LAYOUTS`, or one that holds exactly one such folder; None for
            scikit-learn's handwritten digits.
        holdout: Number of training images set aside to compare candidates on. By default a fifth of the digits, 5,000
            of CIFAR, 10,000 of an image folder, but never more than a fifth of the training images.
        resolution: Side of the square network input in pixels; by default that of the images, 224 for an image folder.
        max_train: Largest number of published training images to use, from which the holdout is cut as well.
        max_test: Largest number of published test images to use; the same ones whatever the seed.
        seed: Seed of the choice of training and holdout images.

    Returns:
        The data set.

    Raises:
        DataError: If the data set is missing, malformed, or cannot be cut as asked.
    """
    options = LoadOptions(holdout=holdout, resolution=resolution, max_train=max_train, max_test=max_test, seed=seed)
    if path is None:
        return load_digits_data(options)
    # Resolved, since workers on Ray have working directories of their own.
    root = Path(path).expanduser().resolve()
    try:
        folder, layout = _find(root)
        return layout.load(folder, options)
    except OSError as error:
        raise DataError(f"`{root}` must be readable, got {error}. Check the path and its permissions.") from error


def _find(root: Path) -> tuple[Path, Layout]:
    """Return the one folder at or just below `root` that is in a known layout."""
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing of that name"
        raise DataError(f"The data path `{root}` must be a folder, got {found}. {_remedy()}")
    here = _layouts_in(root, LAYOUTS.values())
    below = [layout for layout in LAYOUTS.values() if layout.may_be_below]
    found_layouts = here or [
        match for folder in sorted(root.iterdir()) if folder.is_dir() for match in _layouts_in(folder, below)
    ]
    if not found_layouts:
        raise DataError(f"The data path `{root}` must hold a known layout, got {_contents(root)}. {_remedy()}")
    if len(found_layouts) > 1:
        found = ", ".join(f"{layout.description} in {folder}" for folder, layout in found_layouts[:_MAX_NAMES_IN_ERROR])
        if (more := len(found_layouts) - _MAX_NAMES_IN_ERROR) > 0:
            found += f", and {more} more"
        raise DataError(
            f"The data path `{root}` must hold one data set, got {found}. Name the folder of the one you mean."
        )
    return found_layouts[0]


def _layouts_in(folder: Path, layouts: Iterable[Layout]) -> list[tuple[Path, Layout]]:
    return [(folder, layout) for layout in layouts if layout.is_in(folder)]


def _contents(root: Path) -> str:
    names = sorted(entry.name for entry in root.iterdir())
    if not names:
        return "an empty folder"
    return ", ".join(names[:_MAX_NAMES_IN_ERROR]) + (", ..." if len(names) > _MAX_NAMES_IN_ERROR else "")


def _remedy() -> str:
    return f"Name a folder that holds {'; or '.join(layout.description for layout in LAYOUTS.values())}."
