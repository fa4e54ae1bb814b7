"""The command `nasray`, on small runs made for it."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from nasray.architecture import Architecture
from nasray.carbon.fake import FakeClock, FakeProcesses, FakeSensor
from nasray.carbon.intensity import CarbonIntensity
from nasray.carbon.lease import Lease
from nasray.carbon.ledger import EnergyLedger
from nasray.carbon.node_meter import NodeMeter
from nasray.cli import main
from nasray.commands.carbon import CHARGED, NODES
from nasray.models.export_module import export_module
from nasray.records import RunDirectory

OBJECTIVES = [
    {"name": "accuracy", "unit": "", "direction": "maximize"},
    {"name": "latency_ms", "unit": "ms", "direction": "minimize"},
]


def make_run(path, points, *, data="a", method="evolution", limits=()):
    run = RunDirectory.create(
        path,
        method=method,
        preset="x",
        configuration={"constraints": list(limits)},
        seed=0,
        data={"fingerprint": data},
        resume=False,
    )
    rows = []
    for number, (accuracy, latency_ms) in enumerate(points):
        architecture = Architecture.of("space", {"number": number, "run": path.name})
        rows.append(
            {
                "sample_id": str(number),
                "trial_id": str(number),
                "arch_id": architecture.arch_id,
                "architecture": architecture.to_json(),
                "stage": "search",
                "status": "ok",
                "reason": None,
                "seconds": 1.0,
                "metrics": {"accuracy": accuracy, "latency_ms": latency_ms},
            }
        )
    run.append_evaluations(rows)
    run.write_front(OBJECTIVES)
    run.update(status="done")
    run.close()
    return path


@pytest.fixture
def runs(tmp_path):
    one = make_run(tmp_path / "one", [(0.9, 2.0), (0.8, 1.0), (0.7, 3.0)])
    two = make_run(tmp_path / "two", [(0.95, 4.0), (0.6, 1.5)], data="b", method="nsga2")
    return one, two


@pytest.mark.parametrize("command", ["front", "compare"])
def test_commands_that_only_read_records_import_neither_ray_nor_torch(runs, command):
    arguments = [command, *map(str, runs[:1] if command == "front" else runs)]
    code = (
        f"import sys; from nasray.cli import main; status = main({arguments!r}); "
        "print([status, *(name for name in ('ray', 'torch', 'pyarrow') if name in sys.modules)])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip().splitlines()[-1] == "[0]"


def test_front_lists_what_is_not_dominated(runs, capsys):
    assert main(["front", str(runs[0])]) == 0
    said = capsys.readouterr().out
    assert "2 networks on the fronts" in said and "90.00 %" in said and "70.00 %" not in said
    assert main(["front", str(runs[0]), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["accuracy"], row["latency_ms"], row["front"]) for row in rows] == [
        (0.9, 2.0, ["latency_ms"]),
        (0.8, 1.0, ["latency_ms"]),
    ]


def test_fronts_keep_to_the_constraints_of_their_run(runs, tmp_path, capsys):
    points = [(0.9, 2.0), (0.85, 1.0), (0.8, 1.5)]
    limited = make_run(tmp_path / "limited", points, limits=["latency_ms>=1.2", "accuracy<=0.89"])
    assert main(["front", str(limited), "--json"]) == 0
    assert [row["accuracy"] for row in json.loads(capsys.readouterr().out)] == [0.8]
    assert [point["sample_id"] for point in json.loads((limited / "front.json").read_text())["points"]] == ["2"]
    assert main(["compare", str(limited), str(runs[0]), "--json"]) == 0
    one, two = json.loads(capsys.readouterr().out)["runs"]
    assert (one["evaluations"], one["front of latency_ms"], two["front of latency_ms"]) == (3, "0 of 2", "2 of 2")


def test_compare_puts_runs_into_one_front_and_tells_what_differs(runs, capsys):
    assert main(["compare", *map(str, runs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    one, two = found["runs"]
    assert (one["front of latency_ms"], two["front of latency_ms"]) == ("2 of 3", "1 of 3")
    # Up to an accuracy of 0.6 and 4 ms, the worst of both runs.
    assert one["hypervolume, latency_ms"] == pytest.approx((0.9 - 0.6) * (4 - 2) + (0.8 - 0.6) * (2 - 1))
    assert two["hypervolume, latency_ms"] == pytest.approx(0.0)
    assert any("differ in their data (one: a, two: b)" in warning for warning in found["warnings"])
    assert main(["compare", *map(str, runs)]) == 0
    assert "Warning: The runs differ in their data" in capsys.readouterr().err


def test_what_two_runs_have_found_counts_for_both(tmp_path, capsys):
    one = make_run(tmp_path / "one", [(0.9, 2.0), (0.8, 1.0), (0.9, 2.0)])
    two = make_run(tmp_path / "two", [(0.9, 2.0), (0.7, 1.0)])
    assert main(["compare", str(two), str(one), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert {row["run"]: row["front of latency_ms"] for row in rows} == {"one": "2 of 2", "two": "1 of 2"}


def test_carbon_tells_the_run_and_its_nodes_apart(runs, capsys):
    clock, processes = FakeClock(), FakeProcesses()
    sensor, memory = FakeSensor(domain="cpu", idle_power_w=10.0), FakeSensor(domain="ram", idle_power_w=0.0)
    meter = NodeMeter([sensor, memory], node="n", processes=processes, clock=clock)
    processes.start(1)
    processes.start(2)
    meter.open(Lease(owner="trial", stage="search", pid=1, process_created_s=0.0, cpus=1.0))
    clock.sleep(10.0)
    processes.work(1, 1.0)
    processes.work(2, 3.0)
    sensor.spend(500.0)  # 100 J idle; a quarter of the rest is the trial's
    ledger = EnergyLedger(intensity=CarbonIntensity(g_per_kwh=400.0, source="given"))
    ledger.add(meter.snapshot())
    ledger.write(runs[0])
    assert main(["carbon", str(runs[0]), "--json"]) == 0
    energies = {row["stage"]: row["energy_j"] for row in json.loads(capsys.readouterr().out)}
    assert list(energies) == ["search", CHARGED, NODES]
    assert energies["search"] == energies[CHARGED] == pytest.approx(ledger.total()["trials_j"])
    assert energies[NODES] == pytest.approx(500.0) and energies[CHARGED] < 200


def test_report_and_carbon(runs, capsys):
    assert main(["report", str(runs[0])]) == 0
    assert (runs[0] / "report.html").exists() and str(runs[0] / "report.html") in capsys.readouterr().out
    assert main(["carbon", "--place", "FRA", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["g_per_kwh"] < 100 and "France" in row["place"]


def test_export_and_measure_a_network(tmp_path, capsys):
    run = make_run(tmp_path / "run", [(0.9, 2.0)])
    architecture = Architecture.of("space", {"width": 4})
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 10))
    folder = run / "models" / architecture.arch_id
    folder.parent.mkdir()
    report = export_module(network, architecture, folder, example_BCHW=torch.rand(2, 1, 8, 8), card={"Data": "none"})
    assert set(report.differences) >= {"model.pt2"} and max(report.differences.values()) < 1e-4
    output = tmp_path / "shipped"
    assert main(["export", str(run), architecture.arch_id[:6], "--output", str(output)]) == 0
    assert {path.name for path in output.iterdir()} == {path.name for path in folder.iterdir()}
    capsys.readouterr()
    assert main(["measure", str(output), "--json"]) == 0
    costs = {row["cost"]: row for row in json.loads(capsys.readouterr().out)}
    assert costs["macs"]["value"] == 9 * 4 * 36 + 4 * 36 * 10
    assert costs["parameters"]["value"] == 9 * 4 + 4 + 4 * 36 * 10 + 10
    assert costs["latency_ms"]["value"] > 0 and costs["latency_ms"]["quality"] == "measured"
    assert main(["measure", "torch.nn:Identity", "--input", "1,3"]) == 0


def test_networks_of_the_current_folder_are_measured_and_their_errors_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine_to_measure.py").write_text(
        "import torch\nclass Net(torch.nn.Identity): pass\ndef broken(): raise RuntimeError('no weights here')\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["measure", "mine_to_measure:Net", "--input", "1,3"]) == 0
    assert main(["measure", "mine_to_measure:broken", "--input", "1,3"]) == 2
    assert "RuntimeError: no weights here" in capsys.readouterr().err


def test_a_trained_candidate_is_trained_again_the_same(tmp_path, capsys):
    from nasray.data import load_image_data
    from nasray.spaces.cell import CellSpace
    from nasray.training.network_evaluation import NetworkEvaluationConfig, NetworkEvaluator
    from nasray.tune.problems.trained import TrainedProblem
    from nasray.tune.search_api import Training

    images = load_image_data(None, max_train=60)
    space = CellSpace(num_classes=10, in_channels=1, resolution=8, num_cells=1, channels=4)
    recipe = Training(images, epochs=1, batch_size=16).recipe()
    problem = TrainedProblem(space, images, recipe, seed=3)
    architecture = space.from_arch_str("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|")
    found = NetworkEvaluator(space, images, NetworkEvaluationConfig(training=recipe, seed=3))(architecture)
    run = RunDirectory.create(
        tmp_path / "run",
        method="evolution",
        preset="x",
        configuration=problem.configuration(),
        seed=0,
        data=images.describe(),
        resume=False,
    )
    row = {"sample_id": "0", "trial_id": "0", "arch_id": architecture.arch_id, "architecture": architecture.to_json()}
    run.append_evaluations([row | {"stage": "search"} | found.to_json()])
    assert main(["export", str(run.path), architecture.arch_id, "--output", str(tmp_path / "shipped")]) == 0
    network = torch.export.load(tmp_path / "shipped" / "model.pt2").module()
    from nasray.data import Batches

    right = total = 0
    for batch, labels in Batches(images.holdout, images, batch_size=64):
        right += int((network(batch).argmax(1) == labels).sum())
        total += len(labels)
    assert right / total == pytest.approx(found.metrics["accuracy"])


def test_a_chain_is_trained_again_by_the_data_of_its_search(tmp_path):
    from nasray.data import load_image_data
    from nasray.spaces.chain import ChainSpace
    from nasray.tune.problems.trained import TrainedProblem
    from nasray.tune.search_api import Training

    images = load_image_data(None, max_train=60)  # split by a seed of its own, not by that of the search
    space = ChainSpace(num_classes=10, in_channels=1, resolution=8)
    problem = TrainedProblem(space, images, Training(images, epochs=1, batch_size=16).recipe(), seed=7)
    plain = {"method": "evolution", "preset": "api", "data": images.describe(), "resume": False}
    run = RunDirectory.create(tmp_path / "run", configuration=problem.configuration(), seed=7, **plain)
    architecture = space.smallest()
    row = {"sample_id": "0", "trial_id": "0", "arch_id": architecture.arch_id, "architecture": architecture.to_json()}
    run.append_evaluations([row | {"stage": "search", "status": "ok", "metrics": {"accuracy": 0.1}}])
    assert main(["export", str(run.path), architecture.arch_id, "--output", str(tmp_path / "shipped")]) == 0
    assert (tmp_path / "shipped" / "model.pt2").exists()


def test_doctor_tells_what_is_there_and_what_to_do(capsys):
    assert main(["doctor", "--json"]) == 0
    found = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"Python", "torch", "ray", "processors", "memory", "disk here", "CO2 of electricity"} <= set(found)
    assert all(row["is_fine"] == (row["remedy"] is None) for row in found.values())
    assert found["CO2 of electricity"]["remedy"].startswith("Give --place")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["front", "/nowhere"], "holds no run"),
        (["report", "/nowhere"], "holds no run"),
        (["carbon", "/nowhere"], "holds no run"),
        (["carbon", "--place", "Atlantis"], "`place` must be a country"),
        (["compare", "RUN"], "at least two different runs"),
        (["compare", "RUN", "RUN"], "at least two different runs"),
        (["carbon", "RUN"], "must have an energy account"),
        (["export", "RUN", "zz", "--output", "NEW"], "`ARCH` must name one network"),
        (["export", "RUN", "", "--output", "NEW"], "`ARCH` must name one network"),
        (["export", "RUN", "FIRST", "--output", "NEW"], "does not tell how"),
        (["export", "RUN", "FIRST", "--output", "RUN"], "`--output` must be a new or empty folder"),
        (["measure", "nothing"], "`MODEL` must be an exported folder"),
        (["measure", "no.such:thing"], "`MODEL` must be module:name"),
        (["measure", "x.pt2"], "a file that exists"),
        (["measure", "torch.nn:Identity"], "`--input` must give the shape"),
        (["measure", "torch.nn:Identity", "--input", "1,x"], "`--input` must be positive whole numbers"),
        (["lut", "show", "/nowhere"], "nowhere"),
        (["doctor", "--place", "Atlantis"], "`place` must be a country"),
    ],
)
def test_wrong_input_ends_in_one_sentence(arguments, message, runs, tmp_path, capsys):
    first = RunDirectory.open(runs[0]).evaluations()[0]["arch_id"]
    known = {"RUN": str(runs[0]), "NEW": str(tmp_path / "new"), "FIRST": first}
    assert main([known.get(argument, argument) for argument in arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_files_that_are_no_programs_are_refused(tmp_path, capsys):
    (tmp_path / "x.pt2").write_bytes(b"PK no zip")
    assert main(["measure", str(tmp_path / "x.pt2")]) == 2
    assert "must be a program that torch.export wrote" in capsys.readouterr().err
    shutil.rmtree(tmp_path)


def test_help_loads_nothing_heavy():
    code = "import sys; from nasray.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "ray", "pandas", "numpy", "optuna", "plotly"} & set(found.stderr.split())
