"""The images of a differentiable search: one half of the training part for the weights, one for the architecture.

Tensor letters: B images, C channels, H and W height and width, N training images.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from nasray.data import Batches, ImageData, Split
from nasray.spaces.multi_scale_layout import MultiScaleSettings

Pair = tuple[Tensor, Tensor]
"""Images (B, C, H, W) and labels (B,)."""

_INITIAL, _SPLIT, _EPOCH = 0, 1, 2  # independent streams of randomness


class SearchImages:
    """Cuts the training part in two and gives batches of both; holdout and test stay unseen by the search.

    All randomness depends on the seed and the epoch alone, so that an epoch is the same after a break.

    Args:
        data: Data set.
        settings: Layout that the images have to fit.
        batch_size: Images of each of a step's two batches.
        weights_share: Share of the training images for the weights.
        device: Where batches go.
        decode_threads: Threads that read images.
        seed: Of the cut, batches and augmentation.

    Raises:
        ValueError: If data and layout do not fit.
    """

    def __init__(
        self,
        data: ImageData,
        settings: MultiScaleSettings,
        *,
        batch_size: int,
        weights_share: float,
        device: torch.device,
        decode_threads: int,
        seed: int,
    ) -> None:
        _check_fit(settings, data)
        self._data, self._batch_size, self._device, self._threads = data, batch_size, device, decode_threads
        self._seed = seed
        self.halves = _cut(data.train, weights_share, _entropy(seed, _SPLIT))

    @property
    def steps_per_epoch(self) -> int:
        """Batches of the weights' half in an epoch."""
        return len(self._batches(self.halves[0], 0))

    def pairs(self, epoch: int) -> Iterator[tuple[Pair, Pair]]:
        """Yield a batch for the weights and one for the architecture until the weights' half is through."""
        train, valid = (self._batches(half, epoch) for half in self.halves)
        return zip(train, _endless(valid), strict=False)

    def holdout(self) -> Batches:
        """Return the held-out images, as they are."""
        return Batches(
            self._data.holdout,
            self._data,
            batch_size=self._batch_size,
            device=self._device,
            channels_last=True,
            num_workers=self._threads,
        )

    def initial_randomness(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which torch's randomness is that of the seed's first weights; it is restored after."""
        return self._seeded(_INITIAL)

    def randomness(self, epoch: int) -> contextlib.AbstractContextManager[None]:
        """Return a context in which torch's randomness depends on seed and epoch; it is restored after."""
        return self._seeded(_EPOCH, epoch)

    def _batches(self, half: Split, epoch: int) -> Batches:
        return Batches(
            half,
            self._data,
            batch_size=self._batch_size,
            device=self._device,
            train=True,
            seed=self._seed,
            epoch=epoch,
            channels_last=True,
            num_workers=self._threads,
        )

    @contextlib.contextmanager
    def _seeded(self, *stream: int) -> Iterator[None]:
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(_entropy(self._seed, *stream))
            yield


def _cut(train: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Return the weights' and the architecture's part of the training images."""
    generator = torch.Generator().manual_seed(seed)
    order_N, first = torch.randperm(len(train), generator=generator), round(len(train) * share)
    return train.subset(order_N[:first].sort().values), train.subset(order_N[first:].sort().values)


def _endless(batches: Iterable[Pair]) -> Iterator[Pair]:
    while True:
        yield from batches


def _entropy(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def _check_fit(settings: MultiScaleSettings, data: ImageData) -> None:
    wanted = (settings.num_classes, settings.in_channels, settings.resolution)
    given = (data.num_classes, data.channels, data.resolution)
    if wanted != given:
        raise ValueError(
            "`data` must have the layout's classes, channels and resolution "
            f"({wanted[0]}, {wanted[1]}, {wanted[2]}), got ({given[0]}, {given[1]}, {given[2]}). Change `settings`."
        )
