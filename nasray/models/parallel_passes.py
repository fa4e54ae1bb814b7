"""Passes of several sub-networks at once: a small network keeps one core busy, not several."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_passes(
    run: Callable[[Item], Result], merge: Callable[[Result], None], items: Sequence[Item], device: torch.device
) -> None:
    """Run a pass for each item, and merge the results in the items' order.

    On CPUs as many passes run at once as torch has threads, each on one thread; on other devices, whose kernels queue
    up anyway, one after the other.

    Args:
        run: Takes an item; must write nothing that another call reads or writes.
        merge: Takes a result; never runs twice at once, and may write what is shared but not what `run` reads.
        items: What to run.
        device: Where the passes compute.
    """
    num_threads = torch.get_num_threads()
    if device.type != "cpu" or num_threads == 1 or len(items) == 1:
        for item in items:
            merge(run(item))
        return
    merges = _OrderedMerges(merge)

    def run_and_merge(numbered: tuple[int, Item]) -> None:
        merges.put(numbered[0], run(numbered[1]))

    # The same threads merge: after work of its own, this thread's OpenMP team would spin on their cores for a while.
    list(_threads(num_threads).map(run_and_merge, enumerate(items)))


class _OrderedMerges(Generic[Result]):
    """Takes results in any order and merges them in that of their numbers."""

    def __init__(self, merge: Callable[[Result], None]) -> None:
        self._merge, self._lock = merge, threading.Lock()
        self._waiting: dict[int, Result] = {}
        self._next = 0

    def put(self, number: int, result: Result) -> None:
        """Merge a result and those that waited for it, or keep it until its turn."""
        with self._lock:
            self._waiting[number] = result
            while self._next in self._waiting:
                self._merge(self._waiting.pop(self._next))
                self._next += 1


@cache
def _threads(num_threads: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(num_threads, "subnet", initializer=_use_one_thread)
    started = threading.Barrier(num_threads + 1)
    for _ in range(num_threads):
        pool.submit(started.wait)
    started.wait()
    # The last number that any thread set is that of threads to come: set ours again after theirs.
    torch.set_num_threads(num_threads)
    return pool


def _use_one_thread() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # only the first question makes the number this thread's own
