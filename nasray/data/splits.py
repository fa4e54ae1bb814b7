"""Splits: the images and labels of one part of a data set.

Legend: N images of the split, B images of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from nasray.data.skipped import SkippedImages

_MAX_DIGEST_IMAGES = 4096


class Split(ABC):
    """Images and labels that can be cut into subsets and read in batches.

    Attributes:
        labels_N: Class of each image, int64.
        skipped: The images found unreadable so far, shared with the splits cut from the same source.
    """

    labels_N: Tensor
    skipped: SkippedImages

    def __len__(self) -> int:
        return len(self.labels_N)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images)"

    @abstractmethod
    def subset(self, indices_N: Tensor) -> Split:
        """Return the split that holds the images at `indices_N` (int64), in that order."""

    @abstractmethod
    def read_batches(
        self, rows: Iterable[Tensor], *, train: bool, generator: torch.Generator, num_workers: int, pin_memory: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images of each entry of `rows`, in order.

        Args:
            rows: Indices of the images of each batch, int64 of shape (B,).
            train: Whether to augment while decoding, where this split decodes.
            generator: Source of the augmentation's randomness, on the CPU.
            num_workers: Decoding threads, 0 to choose; unused where nothing is decoded.
            pin_memory: Whether to place batches in page-locked memory for asynchronous copies to a GPU.

        Yields:
            Images of shape (B, C, H, W), uint8, and labels of shape (B,), int64, on the CPU, without unreadable images.
        """

    @abstractmethod
    def update_digest(self, digest: hashlib.blake2b) -> None:
        """Feed what identifies this split's content, cheaply, to `digest`."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MemorySplit(Split):
    """A split whose decoded images fit in memory.

    Attributes:
        images_NCHW: Images, uint8.
        labels_N: Class of each image, int64.
        skipped: The images left out because they could not be decoded.
    """

    images_NCHW: Tensor
    labels_N: Tensor
    skipped: SkippedImages = field(default_factory=SkippedImages)

    def __post_init__(self) -> None:
        if self.images_NCHW.dtype != torch.uint8 or self.images_NCHW.ndim != 4:
            raise ValueError(
                "`images_NCHW` must be a uint8 tensor of four dimensions, "
                f"got {self.images_NCHW.dtype} of shape {tuple(self.images_NCHW.shape)}. Convert it first."
            )
        if len(self.images_NCHW) != len(self.labels_N):
            raise ValueError(
                f"`labels_N` must hold one label per image, got {len(self.labels_N)} labels "
                f"for {len(self.images_NCHW)} images. Pass matching tensors."
            )

    def subset(self, indices_N: Tensor) -> MemorySplit:
        """Return a copy of the images at `indices_N` (int64), in that order."""
        return MemorySplit(
            images_NCHW=self.images_NCHW[indices_N], labels_N=self.labels_N[indices_N], skipped=self.skipped
        )

    def resized(self, resolution: int) -> MemorySplit:
        """Return the split with square images of `resolution` pixels (bilinear, antialiased)."""
        if self.images_NCHW.shape[-2:] == (resolution, resolution):
            return self
        images_NCHW = F.interpolate(self.images_NCHW, size=(resolution, resolution), mode="bilinear", antialias=True)
        return MemorySplit(images_NCHW=images_NCHW, labels_N=self.labels_N, skipped=self.skipped)

    def read_batches(
        self, rows: Iterable[Tensor], *, train: bool, generator: torch.Generator, num_workers: int, pin_memory: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images of each entry of `rows`; they are augmented later, on the device."""
        for indices_B in rows:
            images_BCHW, labels_B = self.images_NCHW[indices_B], self.labels_N[indices_B]
            yield (images_BCHW.pin_memory(), labels_B.pin_memory()) if pin_memory else (images_BCHW, labels_B)

    def update_digest(self, digest: hashlib.blake2b) -> None:
        """Feed all labels and up to 4,096 evenly spaced images to `digest`."""
        step = max(1, -(-len(self) // _MAX_DIGEST_IMAGES))
        digest.update(self.labels_N.numpy().tobytes())
        digest.update(self.images_NCHW[::step].numpy().tobytes())
