"""Evaluations as lines of `evaluations.jsonl`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasray.reading import short
from nasray.records.files import RunError, check_name, to_json
from nasray.records.lines import read_lines
from nasray.records.shapes import check_evaluation

EVALUATION_STATUSES = ("ok", "failed", "infeasible")


def read_evaluations(path: Path) -> list[dict[str, Any]]:
    """Return the evaluations in the order of their first lines, each as its latest line has it.

    Raises:
        RunError: If a line before the last is damaged, or a line has no `sample_id` or a part of another type.
    """
    rows: dict[str, dict[str, Any]] = {}
    for number, row in read_lines(path):
        if not isinstance(row.get("sample_id"), str):
            raise RunError(
                f"`sample_id` must be text, got {short(row.get('sample_id'))} in line {number} of {path}. Correct or "
                "delete that line."
            )
        check_evaluation(row, path, number)
        rows[row["sample_id"]] = row
    return list(rows.values())


def evaluation_line(row: Mapping[str, Any]) -> str:
    """Return the line of an evaluation.

    Raises:
        RunError: If it lacks `sample_id`, has an unsafe `arch_id`, an unknown `status` or a value that is not JSON.
    """
    sample_id = row.get("sample_id")
    if not isinstance(sample_id, str) or not sample_id:
        raise RunError(f"`sample_id` must be text, got {sample_id!r}. Give every evaluation its own id.")
    check_name(row.get("arch_id"), f"arch_id of evaluation {sample_id}")
    if row.get("status") not in EVALUATION_STATUSES:
        raise RunError(
            f"`status` of evaluation {sample_id} must be one of {', '.join(EVALUATION_STATUSES)}, "
            f"got {row.get('status')!r}. Choose one of them."
        )
    return to_json(dict(row), f"evaluation {sample_id}")
