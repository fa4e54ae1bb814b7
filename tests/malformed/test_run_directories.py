"""Run directories: whatever is in one, it is read, or one sentence says what is wrong; so it is with its report."""

import json
import shutil

import pytest
from contract import check
from damage import dumps, json_files, json_values, line_files, place
from sample_runs import made

from nasray.carbon.ledger import ENERGY_FILE, EnergyLedger
from nasray.hardware.front_check import FILE as COST_CHECK
from nasray.records import RunDirectory
from nasray.report import checked_files
from nasray.report.anytime import FILE, anytime
from nasray.report.checked_files import FRONT_FILE as FRONT
from nasray.report.page import render
from nasray.report.sections import Figures
from nasray.spaces.genotype import DARTS_V2
from nasray.spaces.multi_scale_layout import MultiScaleSettings


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    return made(tmp_path_factory.mktemp("run") / "run").path


@pytest.fixture(scope="module")
def copied(tmp_path_factory, valid):
    """Return a run directory that is whole but for one file."""
    folders = {}

    def put(name, case):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("copy") / "run"
            shutil.copytree(valid, folders[name])
        path = folders[name] / name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        place(path, case)
        return folders[name]

    return put


def test_run_json(valid, copied):
    def accept(found, case):
        assert found.run == json.loads(case)
        found.add_stage("more", 1.0, started="", device="cpu")

    check(
        "run.json",
        json_files(json.loads((valid / "run.json").read_text())),
        lambda case: RunDirectory.open(copied("run.json", case)),
        examples=700,
        accept=accept,
    )


def test_evaluations(valid, copied):
    rows = [json.loads(line) for line in (valid / "evaluations.jsonl").read_text().splitlines()]

    def parse(case):
        run = RunDirectory.open(copied("evaluations.jsonl", case))
        return run, run.evaluations()

    def accept(found, case):
        run, rows = found
        assert len({row["sample_id"] for row in rows}) == len(rows)
        run.write_front([{"name": "accuracy", "direction": "maximize"}, {"name": "macs", "direction": "minimize"}])

    check("evaluations.jsonl", line_files(rows), parse, examples=700, accept=accept)


READ = {ENERGY_FILE: checked_files.energy_account, COST_CHECK: checked_files.cost_check, FRONT: checked_files.front}


@pytest.mark.parametrize("name", READ)
def test_files_of_a_report(valid, copied, name):
    document = json.loads((valid / name).read_text())
    check(
        f"{name} for a report",
        json_files(document),
        lambda case: READ[name](RunDirectory.open(copied(name, case))),
        examples=300,
    )


@pytest.mark.parametrize("name", ["run.json", "evaluations.jsonl", *READ])
def test_whole_reports(valid, copied, name):
    """Figures take plotly most of a second, so these are few."""
    content = (valid / name).read_bytes()
    is_lines = name.endswith("jsonl")
    document = [json.loads(line) for line in content.splitlines()] if is_lines else json.loads(content)
    check(
        "whole report",
        line_files(document) if is_lines else json_values(document).map(dumps),
        lambda case: render(RunDirectory.open(copied(name, case))),
        examples=12,
    )


def test_energy_accounts(fresh, valid):
    document = json.loads((valid / ENERGY_FILE).read_text())

    def accept(found, case):
        known = [energy.energy_j for energy in found.owners().values() if energy.energy_j is not None]
        assert all(value >= 0 for value in known) and found.pue >= 1 and found.hours >= 0
        found.to_json()
        found.emissions_rows()

    check(
        "energy.json",
        json_files(document),
        lambda case: EnergyLedger.of_folder(place(fresh(ENERGY_FILE), case).parent),
        examples=600,
        accept=accept,
    )


def network(group, seed):
    exits = [
        {"exit": n, "test_accuracy": 0.1 * n, "macs": 1e5 * n, "cumulative_macs": 1e5 * n, "parameters": 1e4 * n}
        | {"latency_ms": 1.0 * n, "energy_mj": None}
        for n in (1, 2)
    ]
    layout = MultiScaleSettings(scales=1, layers=4, exits=2, channels=4).to_drawing()
    adaptive = {"budget_macs": 1.5e5, "test_mean_macs": 1.4e5, "test_accuracy": 0.7, "test_shares": [0.6, 0.4]}
    drawn = (
        {"genotype": DARTS_V2.to_json(), "layout": layout} if group == "found" else {"genotype": None, "layout": None}
    )
    names = {"name": f"{group}-{seed}", "group": group, "label": group, "variant": "x", "arch_id": f"{group}{seed}"}
    figures = {"holdout_area_under_curve": 0.5, "test_area_under_curve": 0.4, "expected_test_accuracy": 0.2}
    return {
        **names,
        **drawn,
        **figures,
        "seed": seed,
        "model_dir": None,
        "is_best": True,
        "exits": exits,
        "adaptive": [adaptive],
    }


def test_networks_with_exits(fresh):
    networks = [network(group, seed) for group in ("found", "random") for seed in (0, 1)]
    document = json.loads(json.dumps({"networks": networks, "comparisons": [], "searches": []}))
    run = made(fresh("run"))

    def parse(case):
        path = run.path / FILE
        path.unlink(missing_ok=True)
        place(path, case)
        with checked_files.explained(run, FILE):
            return anytime(run.read_json(FILE), Figures())

    assert parse(dumps(document))
    check("anytime.json for a report", json_files(document), parse, examples=60)
