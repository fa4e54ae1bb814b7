import pickle
from types import SimpleNamespace

import pytest
import ray.exceptions

from nasray.tune import crash_watch
from nasray.tune.crash_watch import CrashWatch, crash_failure


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(crash_watch, "time", clock)
    return clock


@pytest.fixture
def killed(monkeypatch):
    killed = []
    monkeypatch.setattr(crash_watch.ray, "kill", killed.append)
    return killed


def trial(folder, name, error=None):
    file = folder / f"{name}.pkl"
    if error is not None:
        file.write_bytes(pickle.dumps(error))
    return SimpleNamespace(
        trial_id=name,
        pickled_error_file=str(file) if error is not None else None,
        temporary_state=SimpleNamespace(ray_actor=f"actor of {name}"),
    )


def died(text):
    error = ray.exceptions.ActorDiedError()
    error.error_msg = text
    return error


def test_worker_that_died_after_its_time_took_too_long(clock, killed, tmp_path):
    watch, slow = CrashWatch(5.0, grace_s=2.0), trial(tmp_path, "slow", died("killed"))
    watch.on_trial_start(0, [slow], slow)
    clock.now_s += 4.9
    watch.on_step_begin(0, [slow])
    assert watch.crash("slow").reason.startswith("the worker died")
    assert not watch.crash("slow").is_final
    clock.now_s += 0.1
    failure = watch.crash("slow")
    assert (failure.status, failure.reason, failure.is_final) == ("failed", "time-out: took longer than 5 s", True)
    assert not killed


def test_trial_that_does_not_end_itself_is_killed(clock, killed, tmp_path):
    watch, trials = CrashWatch(5.0, grace_s=2.0), [trial(tmp_path, name) for name in "abc"]
    for one in trials:
        watch.on_trial_start(0, trials, one)
        clock.now_s += 3.0
    watch.on_trial_complete(0, trials, trials[1])
    watch.on_step_begin(0, trials)
    assert killed == ["actor of a"]
    watch.on_trial_error(0, trials, trials[0])
    clock.now_s += 60.0
    watch.on_step_begin(0, trials)
    assert killed == ["actor of a", "actor of c"]


def test_nothing_is_known_of_a_crash_without_an_error(tmp_path):
    watch, silent, torn = CrashWatch(), trial(tmp_path, "silent"), trial(tmp_path, "torn", died(""))
    (tmp_path / "torn.pkl").write_bytes(b"\x80")
    watch.on_step_begin(0, [silent, torn])
    assert watch.crash("silent") is watch.crash("torn") is watch.crash("other") is None


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (died("exit detail: killed by the memory monitor"), "infeasible", "out of memory: Ray ended the worker"),
        (ray.exceptions.OutOfMemoryError("low on memory"), "infeasible", "out of memory: low on memory"),
        (died("connection error code 2"), "failed", "the worker died, perhaps killed by the system"),
        (OSError("stale file handle"), "failed", "OSError: stale file handle"),
    ],
)
def test_crash_is_told_by_its_error_and_may_be_tried_again(error, status, reason):
    failure = crash_failure(error)
    assert failure.status == status
    assert failure.reason.startswith(reason)
    assert not failure.is_final


def test_time_out_must_be_positive():
    with pytest.raises(ValueError, match="`timeout_s` must be positive, got 0"):
        CrashWatch(0)
