"""Which images become train, holdout and test: chosen by label, before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from nasray.data.errors import DataError
from nasray.data.splits import Split

SplitT = TypeVar("SplitT", bound=Split)
SplitT_co = TypeVar("SplitT_co", bound=Split, covariant=True)

_MAX_DEFAULT_HOLDOUT_FRACTION = 0.2
_TEST_SEED = 0  # runs with different seeds are tested on the same images


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What a caller may choose about any data set; see `load_image_data`."""

    holdout: int | None = None
    resolution: int | None = None
    max_train: int | None = None
    max_test: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, minimum in (("holdout", 0), ("resolution", 1), ("max_train", 1), ("max_test", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise DataError(f"`{name}` must be at least {minimum}, got {value}. Leave it out for the default.")


class Source(Protocol[SplitT_co]):
    """Labels that are known and images that are read only when chosen; every `Split` is one."""

    @property
    def labels_N(self) -> Tensor:
        """Class of each image, int64."""

    def subset(self, indices_N: Tensor) -> SplitT_co:
        """Return the split that holds the images at `indices_N`."""


def stratified_order(labels_N: Tensor, seed: int) -> Tensor:
    """Return a random order of the images whose every beginning and every end holds the classes in proportion.

    The first image of each class comes before any second one: a beginning as long as there are classes has them all.

    Args:
        labels_N: Class of each image, int64.
        seed: Seed of the order.

    Returns:
        Indices of shape (N,), int64.
    """
    labels = labels_N.numpy()
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    rank_in_class = np.arange(len(labels)) - np.repeat(starts, counts)
    order = np.argsort(rank_in_class / np.repeat(counts, counts), kind="stable")
    return torch.from_numpy(by_class[order])


def cut(
    train: Source[SplitT], test: Source[SplitT], *, options: LoadOptions, num_classes: int, default_holdout: int
) -> tuple[SplitT, SplitT, SplitT]:
    """Cut the published training images into train and holdout, and cap their number and that of the test images.

    Args:
        train: The published training images.
        test: The published test images.
        options: Caps, size of the holdout and seed.
        num_classes: Number of classes.
        default_holdout: Size of the holdout where `options` names none, never more than a fifth of the training images.

    Returns:
        Train, holdout and test, each in the order of the source.

    Raises:
        DataError: If there are no images, labels are out of range, or the options ask for what cannot be.
    """
    for part, source in (("training", train), ("test", test)):
        _check_labels(part, source.labels_N, num_classes)
    num_train = min(len(train.labels_N), options.max_train or len(train.labels_N))
    if options.max_train is not None and options.max_train < num_classes:
        raise DataError(
            f"`max_train` must be at least the number of classes, {num_classes}, got {options.max_train}. "
            "Ask for at least one image of each class."
        )
    num_holdout = _holdout_size(options.holdout, num_train=num_train, default_holdout=default_holdout)
    order_N = stratified_order(train.labels_N, options.seed)[:num_train]
    boundary = num_train - num_holdout
    test_order_N = stratified_order(test.labels_N, _TEST_SEED)[: options.max_test]
    return (
        train.subset(order_N[:boundary].sort().values),
        train.subset(order_N[boundary:].sort().values),
        test.subset(test_order_N.sort().values),
    )


def _holdout_size(holdout: int | None, *, num_train: int, default_holdout: int) -> int:
    if holdout is None:
        largest = max(1, int(num_train * _MAX_DEFAULT_HOLDOUT_FRACTION))
        return min(default_holdout, largest, num_train - 1)
    if holdout >= num_train:
        raise DataError(
            f"`holdout` must be smaller than the number of training images it is cut from, {num_train:,}, "
            f"got {holdout:,}. Ask for fewer, or for more training images."
        )
    return holdout


def _check_labels(part: str, labels_N: Tensor, num_classes: int) -> None:
    if not len(labels_N):
        raise DataError(f"The {part} part must hold at least one image, got none. Check that the data set is complete.")
    low, high = int(labels_N.min()), int(labels_N.max())
    if low < 0 or high >= num_classes:
        raise DataError(
            f"The labels of the {part} part must be within 0..{num_classes - 1}, got {low}..{high}. "
            "Obtain the data set again, or correct its labels."
        )
