"""Batches: one epoch of normalised images on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from nasray.data.image_data import ImageData
from nasray.data.splits import Split

_SHUFFLE, _AUGMENT = 0, 1  # independent streams of randomness


class Batches:
    """Iterate over one epoch of a split, as often as wanted, each time with the same batches.

    Order and augmentation depend on `seed`, `epoch` and `rank` alone, so that resuming at an epoch gives the batches
    that it would have had without a break. Shards of different ranks are disjoint and of one size; up to
    `world_size` - 1 images are left out for that, so evaluate with one rank where every image must count.
    """

    def __init__(
        self,
        split: Split,
        data: ImageData,
        *,
        batch_size: int,
        device: torch.device | str = "cpu",
        train: bool = False,
        seed: int = 0,
        epoch: int = 0,
        channels_last: bool = False,
        drop_last: bool | None = None,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
    ) -> None:
        """Plan an epoch; nothing is read yet.

        Args:
            split: Which images, usually `data.train`, `data.holdout` or `data.test`.
            data: The data set, for normalisation and augmentation.
            batch_size: Images per batch and rank.
            device: Where the batches are delivered, and where images in memory are augmented.
            train: Whether to shuffle and augment.
            seed: Seed of shuffling and augmentation.
            epoch: Number of the epoch, from 0.
            channels_last: Whether images are stored with channels last.
            drop_last: Whether to leave out an incomplete last batch; by default when training, if that leaves any.
            rank: Number of this process among those that share the epoch.
            world_size: Number of processes that share the epoch.
            num_workers: Decoding threads for image folders, 0 for one per CPU; unused for images in memory.
        """
        for name, value, minimum in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("epoch", epoch, 0),
            ("world_size", world_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < minimum:
                raise ValueError(f"`{name}` must be at least {minimum}, got {value}. Pass a larger number.")
        if not 0 <= rank < world_size:
            raise ValueError(f"`rank` must be within 0..{world_size - 1}, got {rank}. Number the processes from 0.")
        if len(split) < world_size:
            raise ValueError(
                f"`split` must hold an image for each of {world_size} processes, got {len(split)}. "
                "Use fewer processes or more images."
            )
        self._split = split
        self._data = data
        self._batch_size = batch_size
        self._device = torch.device(device)
        self._train = train
        self._seed = seed
        self._epoch = epoch
        self._channels_last = channels_last
        self._rank = rank
        self._world_size = world_size
        self._num_workers = num_workers
        self._drop_last = train and self.num_images >= batch_size if drop_last is None else drop_last
        if not len(self):
            raise ValueError(
                f"`batch_size` must be at most {self.num_images}, the images of this process, where incomplete batches "
                f"are dropped, got {batch_size}. Make batches smaller."
            )

    @property
    def num_images(self) -> int:
        """Number of images of this process's shard, before an incomplete batch is dropped."""
        return len(self._split) // self._world_size

    def __len__(self) -> int:
        num_full, rest = divmod(self.num_images, self._batch_size)
        return num_full + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images of shape (B, C, H, W), float32, normalised, and labels of shape (B,), int64, on the device.

        Unreadable images of a folder are missing from their batch, and a batch without any other is left out; but
        processes that train together take steps together, so that there, others are seen once more in their place.
        """
        generator = _generator(_AUGMENT, self._seed, self._epoch, self._rank)
        rows = self._rows()
        batches = self._split.read_batches(
            rows,
            train=self._train,
            generator=generator,
            num_workers=self._num_workers,
            pin_memory=self._device.type == "cuda",
        )
        if self._train and self._world_size > 1:
            batches = _filled(batches, [len(row) for row in rows])
        for images_BCHW, labels_B in batches:
            images_BCHW = images_BCHW.to(self._device, non_blocking=True)
            if self._train:
                images_BCHW = self._data.augmentation(images_BCHW, generator)
            yield self._normalised(images_BCHW), labels_B.to(self._device, non_blocking=True)

    def _rows(self) -> list[Tensor]:
        """Return the indices of each batch of this shard."""
        num_images = len(self._split)
        order_N = torch.arange(num_images)
        if self._train:
            order_N = torch.randperm(num_images, generator=_generator(_SHUFFLE, self._seed, self._epoch))
        # A step's images are those of one process with all the batch, cut into a part for each rank.
        steps = torch.split(order_N[: self.num_images * self._world_size], self._batch_size * self._world_size)
        return [step.tensor_split(self._world_size)[self._rank] for step in steps][: len(self)]

    def _normalised(self, images_BCHW: Tensor) -> Tensor:
        shape = (1, self._data.channels, 1, 1)
        mean = torch.tensor(self._data.mean, device=self._device).view(shape)
        std = torch.tensor(self._data.std, device=self._device).view(shape)
        memory_format = torch.channels_last if self._channels_last else torch.contiguous_format
        values = images_BCHW.to(torch.float32, memory_format=memory_format)
        return values.sub_(255 * mean).div_(255 * std)


def _filled(batches: Iterator[tuple[Tensor, Tensor]], sizes: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a batch of each size: what is missing of one is filled with its own images, a missing one is the last."""
    batch: tuple[Tensor, Tensor] | None = None
    for size in sizes:
        batch = next(batches, batch)
        if batch is None:  # none can be read, which has been raised
            return
        images_BCHW, labels_B = batch
        rows_B = torch.arange(size) % len(labels_B)
        yield batch if len(labels_B) == size else (images_BCHW[rows_B], labels_B[rows_B])


def _generator(*entropy: int) -> torch.Generator:
    """Return a generator on the CPU whose stream depends on all of `entropy`."""
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
