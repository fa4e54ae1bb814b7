import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module("benchmark_storm")


def storm(benchmark, num_candidates):
    return benchmark.Storm(
        num_candidates=num_candidates, share=0.1, timeout_s=2.0, grace_s=1.0, allocated_bytes=1 << 22, seed=0
    )


def test_storm_has_a_tenth_of_bad_candidates_in_equal_parts(benchmark):
    kinds = storm(benchmark, 1400).kinds()
    assert Counter(kinds.values()) == dict.fromkeys(benchmark.EXPECTED, 20)
    assert kinds == storm(benchmark, 1400).kinds()


def test_judge_notices_what_is_wrong(benchmark):
    load = storm(benchmark, 20)
    search = load.strategy()
    ids = [search.ask().architecture.arch_id for _ in range(20)]
    kinds = {ids[3]: "nan"}
    rows = [
        {"arch_id": a, "status": "ok", "reason": None, "metrics": {**benchmark.table(a), "pid": 1, "rss_bytes": 1}}
        for a in ids
    ]
    found = {"rows": rows, "lines": 21, "front": [], "seconds": 1.0, "driver_bytes": [1, 1], "worker_deaths": 0}
    figures = benchmark.judge(found, kinds, load, 2)
    assert [row["arch_id"] for row in figures["wrong"]] == [ids[3]]
    assert not figures["is_each_recorded_once"]
    assert not figures["is_front_that_of_the_good"]


@pytest.mark.ray
def test_short_storm_is_survived(benchmark, tmp_path):
    # A process of its own, as workers can't import a module of the tests.
    options = ["--candidates", "70", "--megabytes", "32", "--json", str(tmp_path / "storm.json")]
    environment = {**os.environ, "PYTHONPATH": str(EXPERIMENTS.parent)}
    ended = subprocess.run(
        [sys.executable, str(EXPERIMENTS / "benchmark_storm.py"), *options],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "the front that of the good: yes" in ended.stdout
    figures = json.loads((tmp_path / "storm.json").read_text())["figures"]
    assert {end["kind"]: end["count"] for end in figures["storm"]["ends"]} == {
        "good": 63,
        **dict.fromkeys(benchmark.EXPECTED, 1),
    }


def test_wrong_options_are_one_sentence(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark_storm.py", "--share", "1.5"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "--share must be between 0 and 1" in capsys.readouterr().err
