import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasray.records import RunDirectory, RunError
from nasray.records.lines import append_lines, read_lines

CONFIGURATION = {"search": {"iterations": 10, "widths": (16, 24)}, "supernet": {"epochs": 5}}


def create(path: Path, *, resume: bool = False, **changes: Any) -> RunDirectory:
    arguments: dict[str, Any] = {
        "method": "netadapt_v2",
        "preset": "digits",
        "configuration": CONFIGURATION,
        "seed": 0,
        "data": {"name": "digits", "fingerprint": "sha256:00"},
    }
    return RunDirectory.create(path, **{**arguments, **changes}, resume=resume)


def row(sample_id: str, **changes: Any) -> dict[str, Any]:
    metrics = {"accuracy": 0.9, "macs": 100}
    return {"sample_id": sample_id, "arch_id": "a0", "metrics": metrics, "status": "ok", "stage": "search", **changes}


def test_create_records_what_it_takes_to_repeat_the_run(tmp_path: Path) -> None:
    created = create(tmp_path / "runs" / "first").run
    assert json.loads((tmp_path / "runs" / "first" / "run.json").read_text()) == created
    assert created["schema"] == 1
    assert created["status"] == "running"
    assert created["configuration"]["search"]["widths"] == [16, 24]
    assert set(created["versions"]) == {"python", "platform", "nasray", "torch", "ray", "numpy"}
    assert set(created["machine"]) == {"hostname", "cpu_model", "cores", "memory_bytes", "gpus"}
    assert created["machine"]["memory_bytes"] > 0
    assert (created["notices"], created["stages"], created["results"]) == ([], [], [])


def test_create_refuses_what_is_there(tmp_path: Path) -> None:
    create(tmp_path / "run")
    with pytest.raises(RunError, match=r"already holds a run. Add --resume to continue it or choose another --run-dir"):
        create(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(RunError, match=r"must be new or empty, but it is no run and holds thesis.txt"):
        create(tmp_path / "other")


def test_create_refuses_what_it_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written .*choose another --run-dir"):
        create(tmp_path / "file" / "run")
    with pytest.raises(RunError, match="cannot be written"):
        create(tmp_path / "file")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunError, match="Permission denied"):
        create(tmp_path / "locked")


def test_create_takes_an_empty_folder_and_one_whose_first_write_was_torn(tmp_path: Path) -> None:
    (tmp_path / ".run.json.tmp").write_text('{"sch')
    assert create(tmp_path).path == tmp_path


def test_create_refuses_a_configuration_that_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"`configuration.search.rates\[1\]` must be .* got nan"):
        create(tmp_path / "run", configuration={"search": {"rates": [1.0, math.nan]}})
    assert not (tmp_path / "run").exists()


def test_resume_continues_the_same_run(tmp_path: Path) -> None:
    first = create(tmp_path)
    first.append_evaluations([row("s0")])
    first.update(status="interrupted")
    second = create(tmp_path, resume=True)
    assert second.run["status"] == "running"
    assert second.run["created"] == first.run["created"]
    assert [evaluation["sample_id"] for evaluation in second.evaluations()] == ["s0"]
    assert second.run["notices"] == []


def test_resume_names_every_difference_with_both_values(tmp_path: Path) -> None:
    create(tmp_path)
    changed = {"search": {"iterations": 20, "widths": [16, 24]}, "supernet": {"epochs": 5, "warmup": 1}}
    with pytest.raises(RunError, match="differences") as raised:
        create(tmp_path, resume=True, configuration=changed, seed=3, data={"fingerprint": "sha256:11"})
    message = str(raised.value)
    assert "search.iterations was 10 and is now 20" in message
    assert "supernet.warmup was 'nothing' and is now 1" in message
    assert "seed was 0 and is now 3" in message
    assert "data.fingerprint was 'sha256:00' and is now 'sha256:11'" in message
    assert "widths" not in message
    assert "epochs" not in message


def test_resume_refuses_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no run to resume. Leave out --resume"):
        create(tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()


def test_resume_tells_that_versions_and_machine_changed(tmp_path: Path) -> None:
    run = create(tmp_path)
    versions, machine = run.run["versions"] | {"torch": "1.0"}, run.run["machine"] | {"hostname": "elsewhere"}
    run.update(versions=versions, machine=machine)
    notices = create(tmp_path, resume=True).run["notices"]
    assert [notice.split(" after ")[1] for notice in notices] == ["starting with 1.0.", "starting on elsewhere."]


@pytest.mark.parametrize("resume", [False, True])
def test_truncated_run_json_is_refused(tmp_path: Path, resume: bool) -> None:
    create(tmp_path)
    whole = (tmp_path / "run.json").read_text()
    (tmp_path / "run.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="truncated or damaged" if resume else "already holds a run"):
        create(tmp_path, resume=resume)
    with pytest.raises(RunError, match="truncated or damaged"):
        RunDirectory.open(tmp_path)


def test_open_refuses_what_is_no_run_of_this_schema(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        RunDirectory.open(tmp_path)
    (tmp_path / "run.json").write_text('{"schema": 99}')
    with pytest.raises(RunError, match=r"`schema` .* must be 1, got 99"):
        RunDirectory.open(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(RunError, match="must hold a JSON object, got list"):
        RunDirectory.open(tmp_path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_update_that_crashes_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    run = create(tmp_path)
    before = (tmp_path / "run.json").read_text()

    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os if step == "fsync" else Path, step, crash)
        with pytest.raises(RunError, match="No space left on device"):
            run.update(status="done")
    assert (tmp_path / "run.json").read_text() == before
    assert run.run["status"] == "running"
    run.update(status="done")
    assert RunDirectory.open(tmp_path).run["status"] == "done"


def test_update_refuses_what_is_not_json_and_unknown_statuses(tmp_path: Path) -> None:
    run = create(tmp_path)
    with pytest.raises(RunError, match=r"`run.results\[0\].latency_ms` must be .* got inf"):
        run.update(results=[{"latency_ms": math.inf}])
    with pytest.raises(RunError, match="`status` must be one of running, done, interrupted, failed, got 'finished'"):
        run.update(status="finished")
    assert RunDirectory.open(tmp_path).run == run.run


def test_update_takes_numpy_scalars_and_paths(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.update(best=np.float32(0.5), count=np.int64(3), where=Path("models"))
    read = RunDirectory.open(tmp_path).run
    assert (read["best"], read["count"], read["where"]) == (0.5, 3, "models")


def test_add_stage_accumulates_a_resumed_stage(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.add_stage("search", 2.0, started="2026-01-01T00:00:00+00:00", device="cpu")
    run.add_stage("export", 1.0, started="2026-01-01T00:01:00+00:00", device="cpu")
    run.add_stage("search", 3.5, started="2026-01-02T00:00:00+00:00", device="cuda:0")
    search, export = run.run["stages"]
    assert search == {
        "name": "search",
        "seconds": 5.5,
        "started": "2026-01-01T00:00:00+00:00",
        "device": "cpu, cuda:0",
    }
    assert export["seconds"] == 1.0
    with pytest.raises(RunError, match="`seconds` must be at least 0 and finite, got nan"):
        run.add_stage("search", math.nan, started="", device="cpu")


def test_add_notice_records_a_sentence_once(tmp_path: Path) -> None:
    run = create(tmp_path)
    for text in ("Shared machine.", "Other.", "Shared machine."):
        run.add_notice(text)
    assert run.run["notices"] == ["Shared machine.", "Other."]


def test_later_evaluations_with_the_same_sample_id_win(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.append_evaluations([row("s0", seconds=1.0), row("s1")])
    run.append_evaluations([row("s0", seconds=2.0)])
    assert [(found["sample_id"], found.get("seconds")) for found in run.evaluations()] == [("s0", 2.0), ("s1", None)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_id": 7}, "`sample_id` must be text, got 7"),
        ({"status": "great"}, "`status` of evaluation s1 must be one of ok, failed, infeasible"),
        ({"metrics": {"accuracy": math.nan}}, "`evaluation s1.metrics.accuracy` must be"),
        ({"arch_id": "../../etc"}, "`arch_id of evaluation s1` must be a name"),
        ({"arch_id": None}, "`arch_id of evaluation s1` must be a name"),
    ],
)
def test_append_refuses_a_bad_row_and_writes_none(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    run = create(tmp_path)
    with pytest.raises(RunError, match=message):
        run.append_evaluations([row("s0"), row("s1") | changes])
    assert run.evaluations() == []


@settings(deadline=None, max_examples=60)
@given(
    texts=st.lists(st.text(max_size=8), min_size=1, max_size=5),
    lost=st.integers(0, 60),
    zeros=st.integers(0, 3),
)
def test_append_after_a_crash_at_any_byte_keeps_every_whole_line(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], lost: int, zeros: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "lines.jsonl"
    lines = [json.dumps({"number": number, "text": text}) for number, text in enumerate(texts)]
    append_lines(path, lines)
    content = path.read_bytes()[: -lost or None]
    path.write_bytes(content + b"\0" * zeros)  # a power cut may leave a hole
    torn_at = content.decode().split("\n")
    # A line whose newline alone was lost is whole, unless the hole follows it.
    num_whole = sum(line in lines for line in (torn_at[:-1] if zeros else torn_at))
    assert [found["number"] for _, found in read_lines(path)] == list(range(num_whole))
    append_lines(path, ['{"number": 99}'])
    assert [found["number"] for _, found in read_lines(path)] == [*range(num_whole), 99]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_torn_line_longer_than_a_block_is_cut_away(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"number": 0}\n{"text": "' + "x" * 200_000)
    append_lines(path, ['{"number": 1}'])
    assert path.read_text() == '{"number": 0}\n{"number": 1}\n'


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.append_evaluations([row("s0"), row("s1"), row("s2")])
    lines = (tmp_path / "evaluations.jsonl").read_text().splitlines()
    (tmp_path / "evaluations.jsonl").write_text("\n".join([lines[0], lines[1][:9], lines[2]]) + "\n")
    with pytest.raises(RunError, match=r"evaluations.jsonl line 2 is damaged, although later lines are whole"):
        run.evaluations()
    (tmp_path / "evaluations.jsonl").write_text(f'{lines[0]}\n{{"arch_id": "a"}}\n')
    with pytest.raises(RunError, match="`sample_id` must be text, got None in line 2"):
        run.evaluations()


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "../a", "a..b", ".hidden", "a\nb", "x" * 201])
def test_names_never_leave_their_folder(tmp_path: Path, name: str) -> None:
    run = create(tmp_path)
    for use in (run.read_json, run.model_directory, lambda name: run.write_json(name, {})):
        with pytest.raises(RunError, match="must be a name of 1 to 200 characters"):
            use(name)


def test_json_files_are_written_and_read(tmp_path: Path) -> None:
    run = create(tmp_path)
    assert run.read_json("energy.json") is None
    run.write_json("energy.json", {"node_j": 3.5})
    assert run.read_json("energy.json") == {"node_j": 3.5}
    assert run.model_directory("a0") == tmp_path / "models" / "a0"
    with pytest.raises(RunError, match=r"must not be run.json or evaluations.jsonl"):
        run.write_json("run.json", {})


OBJECTIVES = [
    {"name": "accuracy", "unit": "", "direction": "maximize"},
    {"name": "macs", "unit": "", "direction": "minimize"},
    {"name": "latency_ms", "unit": "ms", "direction": "minimize"},
]


def test_front_holds_the_best_per_cost(tmp_path: Path) -> None:
    run = create(tmp_path)
    metrics = {
        "cheap": {"accuracy": 0.6, "macs": 10, "latency_ms": 4.0},
        "dominated": {"accuracy": 0.5, "macs": 20, "latency_ms": 5.0},
        "fast": {"accuracy": 0.7, "macs": 90, "latency_ms": 1.0},
        "good": {"accuracy": 0.9, "macs": 80},
    }
    run.append_evaluations([row(name, metrics=values) for name, values in metrics.items()])
    run.append_evaluations([row("failed", status="failed", metrics={"macs": 1}), row("late", stage="result")])
    front = run.write_front(OBJECTIVES)
    assert run.read_json("front.json") == front
    on_front = {point["sample_id"]: point["costs"] for point in front["points"]}
    assert on_front == {"cheap": ["macs"], "fast": ["latency_ms"], "good": ["macs"]}
    assert front["fronts"]["macs"]["reference_point"] == {"macs": 90, "accuracy": 0.5}
    # Two rectangles up to (90 MACs, accuracy 0.5): 80 x 0.1 and 10 x 0.3 more.
    assert front["fronts"]["macs"]["hypervolume"] == pytest.approx(80 * 0.1 + 10 * 0.3)


def test_front_of_no_evaluations_is_empty(tmp_path: Path) -> None:
    front = create(tmp_path).write_front(OBJECTIVES)
    assert front["points"] == []
    assert front["fronts"]["macs"]["hypervolume"] is None


def test_front_refuses_objectives_that_are_none(tmp_path: Path) -> None:
    run = create(tmp_path)
    with pytest.raises(RunError, match="must hold a quality and at least one cost, got 1"):
        run.write_front(OBJECTIVES[:1])
    with pytest.raises(RunError, match="`direction` must be one of minimize, maximize, got 'up'"):
        run.write_front([{"name": "accuracy", "direction": "up"}])
