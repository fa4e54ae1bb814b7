"""A program on a file system that is really full, where one may be mounted."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "experiments" / "benchmark_disk_full.py"


def test_program_goes_on_after_its_disk_was_full(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    spec = importlib.util.spec_from_file_location("benchmark_disk_full", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmark_disk_full", module)
    spec.loader.exec_module(module)
    options = ["--programs", "nsga2_pareto", "--moments", "0.0", "--evaluations", "60", "--size-mb", "64"]
    file = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["benchmark_disk_full.py", *options, "--json", str(file)])
    status = module.main()
    if status == 2:
        pytest.skip("Mounting a small file system takes the rights of root.")
    assert status == 0
    figures = json.loads(file.read_text())
    (outcome,) = figures["outcomes"]
    assert (outcome["status"], outcome["problems"]) == (1, [])
    announced, left = (figures["undisturbed"]["nsga2_pareto"][name] for name in ("announced_bytes", "left_bytes"))
    assert 0.7 * left < announced < 1.3 * left
