"""What an error says about a candidate, and giving back the memory that the candidate took."""

from __future__ import annotations

import errno
import gc
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from nasray.evaluation import Evaluation

OUT_OF_MEMORY, TIME_OUT, DIVERGED = "out of memory", "time-out", "diverged"
"""How the reasons of the failures that candidates are expected to have begin."""

_MEMORY_PHRASES = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "bad_alloc",
    "status_alloc_failed",
)
_MOST_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What is wrong with a candidate.

    Args:
        status: `infeasible` if it does not fit into memory, else `failed`.
        reason: Why, in one line.
        is_expected: Whether candidates are expected to fail so (memory, time, divergence); else it may be a bug.
        is_final: Whether another try would end the same way; not so if something else may be to blame, as a
            worker whose GPU is in disorder, or a disk.
    """

    status: Literal["failed", "infeasible"] = "failed"
    reason: str
    is_expected: bool = False
    is_final: bool = True

    def evaluation(self, seconds: float = 0.0) -> Evaluation:
        """Return the failure as an evaluation that took some seconds."""
        return Evaluation(status=self.status, reason=self.reason, seconds=seconds)


def failure_of(error: BaseException) -> Failure:
    """Return what an error that an evaluation raised, or that ended its worker, says about the candidate."""
    text = _one_line(error)[:_MOST_CHARACTERS]
    if _is_memory(error):
        reason = f"{OUT_OF_MEMORY}: {text or 'no details'}"
        # Ray ends the worker that suits it, which need not be the one that filled the node's memory.
        is_final = not isinstance(error, _raised_by("ray.exceptions", "OutOfMemoryError"))
        return Failure(status="infeasible", reason=reason, is_expected=True, is_final=is_final)
    if isinstance(error, TimeoutError):
        return Failure(reason=f"{TIME_OUT}: {text}", is_expected=True)
    if isinstance(error, _raised_by("nasray.training.trainer", "DivergedError")):
        return Failure(reason=f"{DIVERGED}: {text}", is_expected=True)
    named = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return Failure(reason=named + _place(error), is_final=not _is_of_the_worker(error, text))


def attempt(work: Callable[[], Evaluation], *, on_bug: Callable[[Exception], None] | None = None) -> Evaluation:
    """Evaluate a candidate; what candidates are expected to do wrong becomes an evaluation that says so.

    These are: no memory left (in Python, torch or on the GPU: infeasible), a training that diverged, and more time
    than allowed. What the candidate took is given back, so that the next one does not suffer.

    Args:
        work: Returns the evaluation.
        on_bug: Told of any other error; then that becomes a failed evaluation, too, unless the worker may be to blame.

    Raises:
        Exception: Whatever else the work raises.
    """
    start = time.perf_counter()
    try:
        return work()
    except Exception as error:
        failure = failure_of(error)
        if not failure.is_expected:
            if on_bug is None or not failure.is_final:
                raise
            on_bug(error)
        release(error)
    free_memory()  # here nothing refers to the error any more
    return failure.evaluation(time.perf_counter() - start)


def release(error: BaseException) -> None:
    """Let go of what the frames of an error hold: tensors of a candidate that ran out of memory live on in them."""
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            traceback.clear_frames(link.__traceback__)
            chain += [link.__cause__, link.__context__]


def free_memory() -> None:
    """Give memory that nobody uses back to the GPU and, on Linux, to the operating system."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        import ctypes

        # C libraries other than glibc have no such function.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _is_memory(error: BaseException) -> bool:
    kinds = (*_raised_by("torch", "OutOfMemoryError"), *_raised_by("ray.exceptions", "OutOfMemoryError"))
    if isinstance(error, (MemoryError, *kinds)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(part in _one_line(error).lower() for part in _MEMORY_PHRASES)


def _is_of_the_worker(error: BaseException, text: str) -> bool:
    """Whether the worker, its disk or its network may be to blame: a failed GPU stays so until its process ends."""
    kinds: Iterable[type[BaseException]] = (
        *_raised_by("torch", "AcceleratorError"),
        *_raised_by("ray.exceptions", "RayError"),
    )
    is_gpu = isinstance(error, RuntimeError) and any(part in text for part in ("CUDA error", "CUDNN_", "CUBLAS_"))
    return is_gpu or isinstance(error, (OSError, *kinds))


def _raised_by(module: str, name: str) -> tuple[type[BaseException], ...]:
    """Return an error class of a module, or none if nobody imported it: torch takes seconds in each worker."""
    found = getattr(sys.modules.get(module), name, None)
    return () if found is None else (found,)


def _place(error: BaseException) -> str:
    """Return where an error arose, best outside of libraries, as " (file.py:12)"; nothing if unknown."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    return f" ({own[-1].filename.rpartition('/')[2]}:{own[-1].lineno})" if own else ""
