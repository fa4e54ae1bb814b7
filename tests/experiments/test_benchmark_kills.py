"""Searches that are killed at random moments lose nothing: the benchmark's own checks, in short."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "experiments" / "benchmark_kills.py"


def figures(tmp_path, *options):
    file = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, options), "--json", str(file)],
        env=os.environ | {"PYTHONPATH": str(PROGRAM.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text())


@pytest.mark.slow
def test_fifty_kills_in_a_row_lose_nothing(tmp_path):
    options = ["--without-ray", "--kills", 50, "--evaluations", 300, "--longest-s", 0.2]
    (outcome,) = figures(tmp_path, *options)
    assert outcome["kills"] == {"driver": 50}
    assert outcome["evaluations"] == 300 * outcome["searches"]
    assert outcome["problems"] == []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_kills_on_ray_lose_nothing(tmp_path):
    options = ["--kills", 3, "--workers", 2, "--strategies", "random", "--options", 3, "--evaluations", 81]
    (outcome,) = figures(tmp_path, *options, "--longest-s", 0.5)
    assert sum(outcome["kills"].values()) == 3
    assert outcome["problems"] == []
