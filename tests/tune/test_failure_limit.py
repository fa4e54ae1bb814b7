import io

import pytest
from rich.console import Console

from nasray.causes import failure_causes
from nasray.evaluation import Evaluation
from nasray.tune.cli_errors import TrialError
from nasray.tune.failure_limit import (
    FailureLimit,
    FailureStopper,
    TooManyFailuresError,
    failure_table,
)

OK = Evaluation(metrics={"accuracy": 0.5})
FAILED = Evaluation(status="failed", reason="ValueError: shapes 3 and 4 (train.py:7)")
MEMORY = Evaluation(status="infeasible", reason="out of memory: 2 GiB")
BROKEN = Evaluation(status="infeasible", reason="latency_ms over 5")


def noted(limit, evaluations):
    for number, evaluation in enumerate(evaluations):
        limit.note(f"a{number}", evaluation)
    return limit


@pytest.mark.parametrize(
    ("evaluations", "is_reached"),
    [
        ([FAILED] * 3, True),
        ([FAILED] * 2, False),
        ([FAILED, FAILED, OK, FAILED, FAILED], False),
        ([FAILED, FAILED, BROKEN, FAILED], True),
        ([BROKEN] * 100, False),
        ([MEMORY] * 8, False),
        ([MEMORY] * 9, True),
        ([MEMORY, MEMORY, FAILED] * 2, False),
        ([MEMORY, MEMORY, FAILED] * 3, True),
        ([MEMORY] * 8 + [OK] + [MEMORY] * 8, False),
        ([FAILED] * 3 + [OK], True),
    ],
)
def test_failures_in_a_row_reach_the_limit(evaluations, is_reached):
    limit = noted(FailureLimit(3), evaluations)
    assert limit.is_reached is FailureStopper(limit).stop_all() is is_reached
    assert not FailureStopper(limit)("trial", {})


def test_end_names_the_most_frequent_cause_and_what_helps():
    diverged = Evaluation(status="failed", reason="diverged: loss is nan")
    limit = noted(FailureLimit(4), [OK, diverged, FAILED, FAILED, FAILED])
    sentence = (
        r"after 4 failed candidates in a row: ValueError: shapes 3 and 4 \(train.py:7\) \(3 of them, such as a2\) and "
        r"1 more cause\(s\). Read the traceback"
    )
    with pytest.raises(TooManyFailuresError, match=sentence):
        limit.raise_if_reached()
    assert issubclass(TooManyFailuresError, TrialError)
    noted(FailureLimit(4), [FAILED] * 3).raise_if_reached()


@pytest.mark.parametrize(("most", "workers", "expected"), [(None, 2, 10), (None, 16, 48), (5, 16, 5)])
def test_default_grows_with_the_workers(most, workers, expected):
    assert FailureLimit.of(most, workers).most == expected


def test_limit_of_none_is_refused():
    with pytest.raises(ValueError, match="`most` must be at least 1, got 0"):
        FailureLimit(0)


def test_causes_are_grouped_whatever_their_numbers():
    reasons = [
        ("failed", "time-out: took longer than 5 s"),
        ("infeasible", "out of memory: Tried to allocate 2.00 GiB"),
        ("infeasible", "out of memory: Tried to allocate 3.50 GiB"),
        ("infeasible", "out of memory: DefaultCPUAllocator"),
        ("infeasible", "latency_ms over 5"),
        ("ok", None),
        ("failed", "the worker died; crashed 2 time(s); see error.txt of trial 4f1"),
        ("failed", "the worker died; crashed 2 time(s); see error.txt of trial 09a"),
        ("failed", "ValueError: " + "x" * 200),
    ]
    rows = [{"arch_id": f"a{n}", "status": s, "reason": r} for n, (s, r) in enumerate(reasons)]
    causes = failure_causes(rows)
    assert [(cause.count, cause.arch_id) for cause in causes] == [(3, "a1"), (2, "a6"), (1, "a0"), (1, "a8")]
    assert "fewer workers" in causes[0].remedy
    assert "dmesg" in causes[1].remedy
    assert "--timeout" in causes[2].remedy
    assert len(causes[3].reason) == 90
    console = Console(file=io.StringIO(), width=200)
    console.print(failure_table(causes))
    text = console.file.getvalue()
    assert all(cause.arch_id in text and cause.remedy[:20] in text for cause in causes)
