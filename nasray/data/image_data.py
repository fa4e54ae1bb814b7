"""ImageData: a data set of square images, cut into train, holdout and test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from nasray.data.augmentation import Augmentation
from nasray.data.splits import Split

_MAX_NAMES_IN_SUMMARY = 10


@dataclass(frozen=True, kw_only=True, repr=False)
class ImageData:
    """A classification data set ready for `Batches`.

    Attributes:
        name: What it is: "digits", "cifar10", "cifar100", "parquet" or "imagenet-folder".
        train: Images to train on.
        holdout: Stratified slice of the published training images, disjoint from `train`, to compare candidates on.
        test: The published test images; to be looked at once, for the architecture that was chosen.
        num_classes: Number of classes.
        channels: Colour channels, 1 or 3.
        resolution: Side of the square network input in pixels.
        mean: Mean of each channel, of values in 0..1.
        std: Standard deviation of each channel, of values in 0..1.
        class_names: Name of each class.
        notice: What the program must tell its user about this data set, if anything.
        augmentation: What `Batches` does to training images on the device; nothing where decoding augments them.
    """

    name: str
    train: Split
    holdout: Split
    test: Split
    num_classes: int
    channels: int
    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    notice: str | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if len(self.class_names) != self.num_classes:
            raise ValueError(
                f"`class_names` must hold {self.num_classes} names, got {len(self.class_names)}. Name every class once."
            )
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"`mean` and `std` must hold one value for each of the {self.channels} channels, "
                f"got {self.mean} and {self.std}. Pass one per channel."
            )
        if min(self.std) <= 0:
            raise ValueError(f"`std` must be positive, got {self.std}. Check that the images are not all alike.")

    def __repr__(self) -> str:
        counts = f"{len(self.train)} train, {len(self.holdout)} holdout, {len(self.test)} test"
        size = f"{self.channels} x {self.resolution} x {self.resolution}"
        return f"ImageData({self.name!r}: {counts} images of {size}, {self.num_classes} classes)"

    @property
    def pixel_formula(self) -> str:
        """How a network's input is made from pixels of 0 to 255, as a card of the network says."""
        mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (self.mean, self.std))
        return f"(value / 255 - mean) / std, by channel: mean {mean}; std {std}"

    @property
    def skipped_images(self) -> tuple[str, ...]:
        """Names of the images found unreadable so far in this process, sorted."""
        names = {name for split in (self.train, self.holdout, self.test) for name in split.skipped.names}
        return tuple(sorted(names))

    def fingerprint(self) -> str:
        """Digest of the three splits; equal only where the same images are split in the same way.

        It reads all labels and, in memory, up to 4,096 images per split; of a folder the file names, not their content.
        """
        digest = hashlib.blake2b(f"{self.name} {self.resolution}".encode(), digest_size=8)
        for split in (self.train, self.holdout, self.test):
            split.update_digest(digest)
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return a summary of the data set that JSON can hold."""
        skipped_images = self.skipped_images
        return {
            "name": self.name,
            "num_train": len(self.train),
            "num_holdout": len(self.holdout),
            "num_test": len(self.test),
            "num_classes": self.num_classes,
            "channels": self.channels,
            "resolution": self.resolution,
            "num_skipped_images": len(skipped_images),
            "skipped_images": list(skipped_images[:_MAX_NAMES_IN_SUMMARY]),
            "fingerprint": self.fingerprint(),
            "notice": self.notice,
        }
