"""FolderSplit: image files that are decoded in threads whenever they are read."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nasray.data import decoding
from nasray.data.decode_pool import DecodeTask, decode_in_order
from nasray.data.errors import DataError
from nasray.data.skipped import SkippedImages
from nasray.data.splits import Split


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FolderSplit(Split):
    """Image files that are decoded whenever they are read.

    Attributes:
        root: The folder `train` or `val`; must exist wherever the split is read.
        paths: Path of each image below `root`.
        labels_N: Class of each image, int64.
        resolution: Side of the decoded images in pixels.
        skipped: The images found unreadable so far.
    """

    root: Path
    paths: Sequence[str]
    labels_N: Tensor
    resolution: int
    skipped: SkippedImages = field(default_factory=SkippedImages)

    def subset(self, indices_N: Tensor) -> FolderSplit:
        """Return the images at `indices_N` (int64), in that order."""
        return FolderSplit(
            root=self.root,
            paths=[self.paths[index] for index in indices_N.tolist()],
            labels_N=self.labels_N[indices_N],
            resolution=self.resolution,
            skipped=self.skipped,
        )

    def read_batches(
        self, rows: Iterable[Tensor], *, train: bool, generator: torch.Generator, num_workers: int, pin_memory: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images of each entry of `rows`: random crops and flips to train on, else centre crops.

        Raises:
            DataError: If the folder is absent, or no image in all of `rows` can be read.
        """
        if not self.root.is_dir():
            raise DataError(f"`{self.root}` must be a folder on every machine that reads it. Copy or mount it there.")
        num_read = 0
        for images_BCHW, labels_B in decode_in_order(
            self._plan(rows, train=train, generator=generator),
            resolution=self.resolution,
            num_workers=num_workers or decoding.decoding_workers(),
            pin_memory=pin_memory,
        ):
            self.skipped.warn_once()
            num_read += len(labels_B)
            if len(labels_B):
                yield images_BCHW, labels_B
        if not num_read:
            raise DataError(
                f"`{self.root}` must hold readable images, got only unreadable ones. Obtain the data set again."
            )

    def update_digest(self, digest: hashlib.blake2b) -> None:
        """Feed all paths and labels to `digest`; the files stay unread."""
        digest.update("\n".join(self.paths).encode())
        digest.update(self.labels_N.numpy().tobytes())

    def _plan(
        self, rows: Iterable[Tensor], *, train: bool, generator: torch.Generator
    ) -> Iterator[tuple[list[DecodeTask], Tensor]]:
        """Draw one seed per image in the order of `rows`, so that crops do not depend on which thread is first."""
        for indices_B in rows:
            seeds = (
                torch.randint(2**62, (len(indices_B),), generator=generator).tolist()
                if train
                else [None] * len(indices_B)
            )
            paths = [self.paths[index] for index in indices_B.tolist()]
            tasks = [functools.partial(self._decode, path, seed) for path, seed in zip(paths, seeds, strict=True)]
            yield list(tasks), self.labels_N[indices_B]

    def _decode(self, path: str, seed: int | None) -> np.ndarray | None:
        try:
            if seed is None:
                return decoding.decode_centre_crop(self.root / path, self.resolution)
            return decoding.decode_random_crop(self.root / path, self.resolution, random.Random(seed))
        except decoding.UNREADABLE as error:
            self.skipped.add(f"{self.root.name}/{path}", error)
            return None
