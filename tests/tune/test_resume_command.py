"""`nasray resume`: what a run's record may say, and what it may not."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from nasray import cli
from nasray.records import RunDirectory
from nasray.records.lock import RunLock
from nasray.tune.cli_errors import exit_status
from nasray.tune.resume_command import program_command, started_program

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"


def run_with(folder, status="interrupted", **program):
    run = RunDirectory.create(folder, method="test", preset="", configuration={}, seed=0, data={}, resume=False)
    recorded = {"name": "nsga2_pareto", "options": [], "paths": []} | program
    run.update(status=status, program=recorded)
    run.close()
    return run


def test_recorded_options_are_taken_and_replaced(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    options = [["--data", str(data)], ["--seed", "3"], ["--seed", "-4"], ["--workers", "2"], ["--ageing"]]
    given = [*options, ["--run-dir", "/old"], ["--resume"], ["--json", "/somewhere"]]
    run = run_with(tmp_path / "run", options=given, paths=["--data", "--run-dir", "--json"])
    path, found = program_command(run, ["--workers", "4"])
    assert path == EXPERIMENTS / "nsga2_pareto.py"
    assert found == [f"--data={data}", "--seed=3", "--seed=-4", "--ageing", "--workers", "4"]


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ({"name": "../../evil"}, "must name one of nasray's programs"),
        ({"name": "/tmp/evil"}, "must name one of nasray's programs"),
        ({"options": [["rm"]]}, "is damaged"),
        ({"options": [["--"]]}, "is damaged"),
        ({"options": [["-c", "import os"]]}, "is damaged"),
        ({"options": "--seed 3"}, "is damaged"),
        ({"options": [["--seed", "1", "2"]]}, "is damaged"),
        ({"options": [["--storage", "postgresql://a:***@b/c"]]}, "`--storage` writes to a database and is not taken"),
        ({"options": [["--address", "10.0.0.1:6379"]]}, "`--address` joins a Ray cluster and is not taken"),
        ({"options": [["--table", "/not/here.csv"]], "paths": ["--table"]}, "/not/here.csv of the run's record is not"),
    ],
)
def test_record_of_a_stranger_runs_nothing_else(tmp_path, program, sentence, capsys, monkeypatch):
    monkeypatch.setattr(os, "execv", lambda *command: pytest.fail(f"{command} was started"))
    run_with(tmp_path / "run", **program)
    assert cli.main(["resume", str(tmp_path / "run")]) == 2
    assert sentence in capsys.readouterr().err


def test_options_that_reach_out_are_taken_when_given_again(tmp_path):
    options = [["--storage", "sqlite:///old.db"], ["--address", "auto"]]
    run = run_with(tmp_path / "run", options=options)
    assert program_command(run, ["--storage=sqlite:///mine.db"])[1] == ["--address=auto", "--storage=sqlite:///mine.db"]
    with pytest.raises(ValueError, match="`--run-dir` must be left out: the run is"):
        program_command(run, ["--storage", "x", "--run-dir", "elsewhere"])


def test_finished_run_is_said_to_be_finished(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "execv", lambda *command: pytest.fail(f"{command} was started"))
    run_with(tmp_path / "run", status="done")
    assert cli.main(["resume", str(tmp_path / "run")]) == 0
    assert "is finished, there is nothing to go on with" in capsys.readouterr().out


def test_wrong_folders_and_runs_in_use_are_refused(tmp_path, capsys):
    assert cli.main(["resume", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    run = run_with(tmp_path / "run")
    script = "import sys; from pathlib import Path; from nasray.records.lock import RunLock"
    script += "; lock = RunLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert holder.stdout.readline() == b"held\n"
    assert cli.main(["resume", str(run.path)]) == 2
    assert f"is being written by process {holder.pid}" in capsys.readouterr().err
    holder.communicate()
    RunLock(run.path).release()


def test_records_are_repaired_or_refused_before_anything_is_started(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "execv", lambda *command: 0)
    run = run_with(tmp_path / "run")
    row = {"arch_id": "a", "status": "ok", "stage": "search", "metrics": {"error": 1.0, "cost": 2.0}}
    run.append_evaluations([{"sample_id": str(number), **row} for number in range(3)])
    run.write_front([{"name": name, "direction": "minimize"} for name in ("error", "cost")])
    record, front = run.path / "evaluations.jsonl", run.path / "front.json"
    whole, whole_front = record.read_text(), json.loads(front.read_text())
    record.write_text(whole[:-9])
    front.write_text("{")
    assert cli.main(["resume", str(run.path)]) == 0
    out = capsys.readouterr().out
    assert "The last line of evaluations.jsonl was torn by a crash" in out
    assert "front.json was missing or damaged and is written anew" in out
    assert record.read_text().splitlines() == whole.splitlines()[:2]
    assert json.loads(front.read_text())["objectives"] == whole_front["objectives"]
    assert len(RunDirectory.open(run.path).run["notices"]) == 2
    record.write_text(whole[:9] + "\n" + whole)
    assert cli.main(["resume", str(run.path)]) == 2
    assert "evaluations.jsonl line 1 is damaged" in capsys.readouterr().err


def test_only_programs_of_nasray_are_recorded():
    recorded = []

    def main() -> None:
        recorded.append(started_program())

    assert exit_status(main, []) == 0
    assert recorded == [None]


@pytest.mark.slow
def test_a_run_is_resumed_from_another_folder(tmp_path, monkeypatch):
    frame = pd.DataFrame([(a, b) for a in range(8) for b in range(8)], columns=["a", "b"])
    frame["cost"], frame["error"] = frame.a + frame.b, 1 / (1 + frame.a * frame.b)
    frame.to_csv(tmp_path / "nets.csv", index=False)
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("nsga2_pareto", EXPERIMENTS / "nsga2_pareto.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options = ["--space", "tabular", "--table", "nets.csv", "--architecture", "a,b", "--minimize", "error,cost"]
    options += ["--no-progress", "--run-dir", "run"]
    assert exit_status(module.main, [*options, "--evaluations", "20"]) == 0
    path = tmp_path / "run" / "run.json"
    recorded = json.loads(path.read_text())
    assert recorded["program"]["name"] == "nsga2_pareto"
    assert ["--table", str(tmp_path / "nets.csv")] in recorded["program"]["options"]
    assert ["--no-progress"] in recorded["program"]["options"]
    path.write_text(json.dumps(recorded | {"status": "running"}))
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-m", "nasray.cli", "resume", str(tmp_path / "run"), "--evaluations", "30"]
    done = subprocess.run(
        command,
        cwd=tmp_path / "elsewhere",
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Going on: " in done.stdout
    assert len((tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()) == 30
    assert json.loads(path.read_text())["status"] == "done"
