"""The table of malformed inputs at the end of a test run."""

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import contract


@pytest.fixture
def fresh(tmp_path):
    """Return paths of files that are not there yet, each in a folder of its own that holds nothing else."""
    numbers = iter(range(10**9))

    def path(name):
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return folder / name

    return path


def pytest_terminal_summary(terminalreporter):
    if contract.TALLY:
        terminalreporter.section("malformed inputs")
        for line in contract.lines():
            terminalreporter.line(line)
        if target := os.environ.get("NASRAY_MALFORMED_JSON"):
            Path(target).write_text(json.dumps(contract.TALLY, indent=1) + "\n", encoding="utf-8")
