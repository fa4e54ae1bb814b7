"""Assemble an ImageData whose images fit in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nasray.data.augmentation import Augmentation
from nasray.data.errors import DataError
from nasray.data.image_data import ImageData
from nasray.data.selection import LoadOptions, Source, cut
from nasray.data.splits import MemorySplit

_MAX_STATISTICS_IMAGES = 10_000


def memory_data(
    train: Source[MemorySplit],
    test: Source[MemorySplit],
    *,
    name: str,
    class_names: Sequence[str],
    options: LoadOptions,
    default_holdout: int,
    shift_fraction: float,
    flip: bool,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    notice: str | None = None,
) -> ImageData:
    """Cut, resize and describe a data set held in memory.

    Args:
        train: The published training images.
        test: The published test images.
        name: Name of the data set.
        class_names: Name of each class.
        options: What the caller chose.
        default_holdout: Size of the holdout where `options` names none.
        shift_fraction: Largest random shift as a fraction of the image's side: at least a pixel, or 0 for none.
        flip: Whether mirrored images are still of the same class.
        mean: Mean of each channel in 0..1; measured on the training images where None.
        std: Standard deviation of each channel in 0..1; measured on the training images where None.
        notice: What the user must be told.

    Returns:
        The data set.

    Raises:
        DataError: If the shift is no fraction, a label is beyond the classes, or there are too few images.
    """
    if not 0 <= shift_fraction <= 1:
        raise DataError(f"`shift_fraction` must be from 0 to 1, got {shift_fraction}. Use 0 to shift nothing.")
    splits = cut(train, test, options=options, num_classes=len(class_names), default_holdout=default_holdout)
    resolution = options.resolution or splits[0].images_NCHW.shape[-1]
    resized_train, resized_holdout, resized_test = (split.resized(resolution) for split in splits)
    if mean is None or std is None:
        mean, std = channel_statistics(resized_train)
    max_shift_px = max(1, round(shift_fraction * resolution)) if shift_fraction else 0
    return ImageData(
        name=name,
        train=resized_train,
        holdout=resized_holdout,
        test=resized_test,
        num_classes=len(class_names),
        channels=resized_train.images_NCHW.shape[1],
        resolution=resolution,
        mean=mean,
        std=std,
        class_names=tuple(class_names),
        notice=notice,
        augmentation=Augmentation(max_shift_px=max_shift_px, flip=flip),
    )


def channel_statistics(split: MemorySplit) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, of values in 0..1, over up to 10,000 evenly spaced images."""
    step = max(1, -(-len(split) // _MAX_STATISTICS_IMAGES))
    values_CK = split.images_NCHW[::step].transpose(0, 1).flatten(1).to(torch.float32) / 255
    return tuple(values_CK.mean(dim=1).tolist()), tuple(values_CK.std(dim=1).tolist())
