import errno
import gc
import weakref
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray.exceptions
import torch

from nasray.evaluation import Evaluation
from nasray.failures import attempt, failure_of
from nasray.training.trainer import DivergedError

MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:115] DefaultCPUAllocator: can't allocate\n memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 800 bytes."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("std::bad_alloc"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]


class Held:
    """Something that a candidate had in its hands."""


@pytest.mark.parametrize("error", MEMORY, ids=repr)
def test_memory_that_runs_out_makes_a_candidate_infeasible(error):
    def work():
        raise error

    failure = failure_of(error)
    assert (failure.status, failure.is_expected, failure.is_final) == ("infeasible", True, True)
    evaluation = attempt(work)
    assert evaluation.status == "infeasible"
    assert evaluation.reason.startswith("out of memory: ")
    assert evaluation.seconds > 0


def test_candidate_that_ray_chose_to_kill_may_be_innocent():
    failure = failure_of(ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory."))
    assert (failure.status, failure.is_final) == ("infeasible", False)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError("took longer than 3 s"), "time-out: took longer than 3 s"),
        (DivergedError("The loss of epoch 3 is nan."), "diverged: The loss of epoch 3 is nan."),
    ],
)
def test_expected_failures_keep_their_reason(error, reason):
    failure = failure_of(error)
    assert (failure.status, failure.reason, failure.is_expected) == ("failed", reason, True)


@pytest.mark.parametrize("error", [ValueError("shapes"), RuntimeError("mat1 and mat2"), KeyError("memory")], ids=repr)
def test_bugs_come_out_unless_somebody_takes_them(error):
    def work():
        raise error

    with pytest.raises(type(error), match=r"shapes|mat1|memory"):
        attempt(work)
    taken = []
    evaluation = attempt(work, on_bug=taken.append)
    assert taken == [error]
    assert evaluation.status == "failed"
    assert evaluation.reason.startswith(f"{type(error).__name__}: ")
    assert "(test_failures.py:" in evaluation.reason


@pytest.mark.parametrize(
    "error",
    [
        OSError("stale file handle"),
        RuntimeError("CUDA error: device-side assert"),
        ray.exceptions.ObjectLostError("0", "", ""),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_worker_may_be_to_blame_for_comes_out_always(error):
    def work():
        raise error

    with pytest.raises(type(error), match=r"stale|device-side|Failed to retrieve"):
        attempt(work, on_bug=lambda _: None)


def test_nothing_keeps_what_a_failed_candidate_held():
    alive = []

    def inner(held):
        cycle = [held]
        cycle.append(cycle)
        raise torch.OutOfMemoryError("no room")

    def work():
        held = Held()
        alive.append(weakref.ref(held))
        try:
            inner(held)
        except torch.OutOfMemoryError as error:
            raise RuntimeError("out of memory in the second stage") from error

    gc.disable()
    try:
        assert attempt(work).status == "infeasible"
    finally:
        gc.enable()
    assert alive[0]() is None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory of a process is told by Linux")
@pytest.mark.parametrize("make", [torch.ones, np.ones], ids=["torch", "numpy"])
def test_memory_is_back_after_a_real_failure_to_allocate(make):
    process = psutil.Process()
    kept = []

    def work():
        # Small blocks stay with the C library when they are freed, unless it is told to give them back.
        blocks = [make(4_000) for _ in range(10_000)]
        kept.append(process.memory_info().rss)
        blocks.append(make(1 << 55))
        raise AssertionError("there was room for 2^55 numbers")

    attempt(lambda: Evaluation())
    before = process.memory_info().rss
    evaluation = attempt(work)
    after = process.memory_info().rss
    assert evaluation.status == "infeasible"
    assert kept[0] - before > 120e6
    assert after - before < 40e6
