"""Image data from somebody's own `torch.utils.data.Dataset`."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nasray.data.errors import DataError
from nasray.data.image_data import ImageData
from nasray.data.memory import memory_data
from nasray.data.selection import LoadOptions
from nasray.data.splits import MemorySplit

_HOLDOUT_FRACTION = 0.2


def image_data(
    train: Dataset[Any],
    test: Dataset[Any],
    *,
    name: str = "dataset",
    class_names: Sequence[str] | None = None,
    holdout: int | None = None,
    resolution: int | None = None,
    max_train: int | None = None,
    max_test: int | None = None,
    seed: int = 0,
    shift_fraction: float = 1 / 8,
    flip: bool = False,
) -> ImageData:
    """Read a pair of data sets into memory.

    Leave normalisation and random augmentation out of the data sets' own transforms: images are normalised by the
    statistics of the training part, and training images are shifted and flipped as told here.

    Args:
        train: Map-style, `dataset[i]` is (image, label). Images are PIL images, uint8 arrays or tensors, or floats from
            0 to 1; (H, W), (H, W, C) or (C, H, W) with 1 or 3 channels, all of one size. Labels are whole numbers
            from 0 without a gap at the beginning.
        test: Likewise; looked at once, for what was found.
        name: What people read.
        class_names: Name of each class, also of those without an image; by default their numbers.
        holdout: Training images to compare candidates on; a fifth by default.
        resolution: Side of the images in pixels, to which they are resized; by default their own, which is square.
        max_train: Most training images to use.
        max_test: Most test images to use.
        seed: Of the cut.
        shift_fraction: Largest random shift of training images as a share of the side; 0 for none.
        flip: Whether mirrored images are still of the same class.

    Raises:
        DataError: If an item is no image with a label, labels do not count from 0, images differ in size, or there
            are too few.
    """
    options = LoadOptions(holdout=holdout, resolution=resolution, max_train=max_train, max_test=max_test, seed=seed)
    parts = [_in_memory(dataset, part) for part, dataset in (("train", train), ("test", test))]
    if len({part.images_NCHW.shape[1:] for part in parts}) > 1:
        shapes = [tuple(part.images_NCHW.shape[1:]) for part in parts]
        raise DataError(f"Images of `train` and `test` must have one shape, got {shapes[0]} and {shapes[1]}.")
    height, width = parts[0].images_NCHW.shape[-2:]
    if resolution is None and height != width:
        raise DataError(f"Images must be square or `resolution` given, got {height} x {width} pixels.")
    names = _numbered([part.labels_N for part in parts]) if class_names is None else list(class_names)
    return memory_data(
        *parts,
        name=name,
        class_names=names,
        options=options,
        default_holdout=round(_HOLDOUT_FRACTION * len(parts[0])),
        shift_fraction=shift_fraction,
        flip=flip,
    )


def _numbered(labels: Sequence[Tensor]) -> list[str]:
    """Return the numbers of the classes as their names.

    Raises:
        DataError: If the labels count from 1, say, which would make a class without an image.
    """
    least = min(int(labels_N.min()) for labels_N in labels)
    most = max(int(labels_N.max()) for labels_N in labels)
    if least > 0:
        raise DataError(
            f"Labels must count from 0, got {least} to {most}. Subtract {least}, or name all {most + 1} classes with "
            "`class_names`."
        )
    return [str(number) for number in range(most + 1)]


def _in_memory(dataset: Dataset[Any], part: str) -> MemorySplit:
    if not hasattr(dataset, "__len__") or not len(cast(Sized, dataset)):
        raise DataError(f"`{part}` must be a map-style data set with at least one image, got none.")
    images, labels = [], []
    for index in range(len(cast(Sized, dataset))):
        try:
            image, label = dataset[index]
            images.append(_image(image))
            labels.append(_label(label))
        except (TypeError, ValueError) as error:
            raise DataError(f"Item {index} of `{part}` must be an image with its label: {error}.") from error
    if len({image.shape for image in images}) > 1:
        shapes = sorted({tuple(image.shape) for image in images})
        raise DataError(
            f"Images of `{part}` must have one shape, got {shapes[0]} and {shapes[-1]}. Resize them in its transform."
        )
    return MemorySplit(images_NCHW=torch.stack(images), labels_N=torch.tensor(labels, dtype=torch.int64))


def _image(image: Any) -> Tensor:
    """Return an image as uint8, (C, H, W); one with a palette in its colours."""
    if getattr(image, "mode", None) in ("P", "PA"):
        image = image.convert("RGB")
    values = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
    if values.ndim == 2:
        values = values.unsqueeze(0)
    if values.ndim != 3:
        raise ValueError(f"an image must have two or three dimensions, got {values.ndim}")
    if values.shape[0] not in (1, 3) and values.shape[-1] in (1, 3):
        values = values.permute(2, 0, 1)
    if values.shape[0] not in (1, 3):
        raise ValueError(f"an image must have 1 or 3 channels, got shape {tuple(values.shape)}")
    if values.is_floating_point():
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"floats must be from 0 to 1, got {low:.3g} to {high:.3g}; leave normalisation out")
        values = (255 * values).round().to(torch.uint8)
    if values.dtype != torch.uint8:
        raise ValueError(f"values must be uint8 or floats, got {values.dtype}")
    return values.contiguous()


def _label(label: Any) -> int:
    number = label.item() if hasattr(label, "item") else label
    if isinstance(number, bool) or number != int(number):
        raise ValueError(f"a label must be a whole number, got {label!r}")
    return int(number)
