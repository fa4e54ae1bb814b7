"""Decode batches ahead of the training loop, in threads; Pillow releases the interpreter's lock while it decodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Batches that are decoded, or being decoded, while the caller works on one.
NUM_PREFETCHED_BATCHES = 3

# Returns an image of shape (H, W, 3), uint8, or None if it cannot be read.
DecodeTask = Callable[[], "np.ndarray | None"]


@dataclass(frozen=True, kw_only=True)
class _PendingBatch:
    images_BHWC: Tensor
    labels_B: Tensor
    is_decoded: list[Future[bool]]

    def result(self) -> tuple[Tensor, Tensor]:
        """Wait for the images, drop those that cannot be read, and return the rest with channels first."""
        is_decoded_B = torch.tensor([future.result() for future in self.is_decoded])
        images_BCHW = self.images_BHWC.permute(0, 3, 1, 2)
        if is_decoded_B.all():
            return images_BCHW, self.labels_B
        return images_BCHW[is_decoded_B], self.labels_B[is_decoded_B]


def decode_in_order(
    batches: Iterable[tuple[Sequence[DecodeTask], Tensor]], *, resolution: int, num_workers: int, pin_memory: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Decode batches in threads and yield them in order, with a few always under way.

    When iteration ends, also early or by an exception, decoding that has not begun is dropped and the threads end.

    Args:
        batches: For each batch its decoding tasks and labels of shape (B,); drawn as decoding proceeds.
        resolution: Side of the decoded images in pixels.
        num_workers: Number of threads.
        pin_memory: Whether to decode into page-locked memory.

    Yields:
        Images of shape (B, 3, H, W), uint8, stored with channels last, and labels of shape (B,); rows that cannot be
        read are missing, so a batch may be empty.
    """
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="nasray-decode")
    pending: deque[_PendingBatch] = deque()
    try:
        for tasks, labels_B in batches:
            pending.append(_submit(pool, tasks, labels_B, resolution=resolution, pin_memory=pin_memory))
            if len(pending) > NUM_PREFETCHED_BATCHES:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(
    pool: ThreadPoolExecutor, tasks: Sequence[DecodeTask], labels_B: Tensor, *, resolution: int, pin_memory: bool
) -> _PendingBatch:
    images_BHWC = torch.empty(len(tasks), resolution, resolution, 3, dtype=torch.uint8, pin_memory=pin_memory)
    rows_BHWC = images_BHWC.numpy()
    return _PendingBatch(
        images_BHWC=images_BHWC,
        labels_B=labels_B.pin_memory() if pin_memory else labels_B,
        is_decoded=[pool.submit(_decode_into, row_HWC, task) for row_HWC, task in zip(rows_BHWC, tasks, strict=True)],
    )


def _decode_into(row_HWC: np.ndarray, task: DecodeTask) -> bool:
    image_HWC = task()
    if image_HWC is None:
        return False
    row_HWC[...] = image_HWC
    return True
