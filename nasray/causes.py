"""Why candidates failed: the causes by how often they came, each with what may help."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nasray.failures import DIVERGED, OUT_OF_MEMORY, TIME_OUT

_SHOWN = 90

_REMEDIES = (
    (OUT_OF_MEMORY, "Limit the space or the batch size, or use fewer workers."),
    (TIME_OUT, "Allow more time (--timeout), or limit the space."),
    (DIVERGED, "Lower the learning rate, or clip gradients."),
    ("the result has no", "Report every objective and constraint under its name."),
    ("the evaluator returned", "Return an Evaluation from the evaluator."),
    ("not a number", "Report each metric as one number."),
    (" is nan", "Look for divisions by zero and diverging trainings."),
    (" is inf", "Look for divisions by zero and diverging trainings."),
    ("the worker died", "Look for crashes of native code, and in dmesg for the kernel's out-of-memory killer."),
    ("", "Read the traceback in ray/search-*/<candidate>-*/ (error.txt or result.json) of the run."),
)
_OUT_OF_BOUNDS = "None is needed: the space holds networks beyond a limit."


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why some candidates failed.

    Args:
        status: `failed` or `infeasible`.
        reason: The reason of the first of them, shortened.
        count: How many.
        arch_id: The first of them.
        remedy: What may help.
    """

    status: str
    reason: str
    count: int
    arch_id: str
    remedy: str


def has_failed(status: str, reason: str | None) -> bool:
    """Whether an evaluation failed or ran out of memory, unlike one that is ok or breaks a limit."""
    return status == "failed" or (status == "infeasible" and str(reason).startswith(OUT_OF_MEMORY))


def failure_causes(rows: Iterable[Mapping[str, Any]]) -> list[Cause]:
    """Return why evaluations failed, the most frequent cause first; numbers in reasons make no difference.

    Args:
        rows: Evaluations with `arch_id`, `status` and `reason`, as a run records them; others are passed over.
    """
    return causes_of(row for row in rows if has_failed(row["status"], row.get("reason")))


def causes_of(rows: Iterable[Mapping[str, Any]]) -> list[Cause]:
    """Return why evaluations are not ok, those that break a limit too; the most frequent cause first.

    Args:
        rows: As for `failure_causes`; those that are ok are passed over.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["status"] != "ok":
            groups.setdefault((row["status"], _kind(str(row.get("reason")))), []).append(row)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [_cause(status, found) for (status, _), found in ordered]


def _cause(status: str, rows: list[Mapping[str, Any]]) -> Cause:
    reason = str(rows[0].get("reason"))
    shown = reason if len(reason) <= _SHOWN else reason[: _SHOWN - 3] + "..."
    remedy = next(remedy for part, remedy in _REMEDIES if part in reason)
    if not has_failed(status, reason):
        remedy = _OUT_OF_BOUNDS
    return Cause(status=status, reason=shown, count=len(rows), arch_id=str(rows[0].get("arch_id")), remedy=remedy)


def _kind(reason: str) -> str:
    """Return what a reason has in common with others of its kind."""
    expected = next((kind for kind in (OUT_OF_MEMORY, TIME_OUT, DIVERGED) if reason.startswith(kind)), None)
    return expected or re.sub(r"\S*\d\S*", "#", reason)
