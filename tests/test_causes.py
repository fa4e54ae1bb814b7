"""Why candidates failed, with those that break a limit."""

from nasray.causes import causes_of, failure_causes


def row(status, reason, arch_id="a"):
    return {"status": status, "reason": reason, "arch_id": arch_id}


ROWS = [
    row("ok", None),
    row("infeasible", "7 parameters over 5", "b"),
    row("infeasible", "9 parameters over 5"),
    row("failed", "time-out: took longer than 3 s"),
]


def test_limits_are_a_cause_but_no_failure():
    assert [(cause.status, cause.count, cause.arch_id) for cause in causes_of(ROWS)] == [
        ("infeasible", 2, "b"),
        ("failed", 1, "a"),
    ]
    assert causes_of(ROWS)[0].remedy.startswith("None is needed")
    assert [cause.remedy for cause in failure_causes(ROWS)] == ["Allow more time (--timeout), or limit the space."]
