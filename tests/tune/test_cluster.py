"""Searches over real nodes of Ray, each a `ray start` of its own, and what happens when one of them is lost."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from nasray.carbon.ledger import EnergyLedger

pytestmark = [pytest.mark.ray, pytest.mark.slow]
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
ASKED = 30
PARTS = ("trials_j", "other_j", "idle_j", "node_j")


@pytest.fixture(scope="module")
def raylets():
    """How nodes are started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXPERIMENTS)
        yield importlib.import_module("_raylets")


@pytest.fixture(scope="module")
def folder():
    """A folder with a short name, for Ray's sockets."""
    path = Path(tempfile.mkdtemp(prefix="nr"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def command(*arguments):
    # A process of its own: this one may have another Ray.
    return [sys.executable, str(EXPERIMENTS / "benchmark_cluster.py"), *map(str, arguments)]


@pytest.fixture(scope="module")
def figures(folder):
    """A search over two nodes, and one whose second node was killed."""
    arguments = ("--candidates", ASKED, "--seconds", 0.4, "--json", folder / "figures.json")
    environment = {"PYTHONPATH": str(EXPERIMENTS.parent), **os.environ}
    done = subprocess.run(
        command(*arguments), env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "figures.json").read_text(encoding="utf-8"))


def test_candidates_are_spread_over_both_nodes(figures):
    found = figures["two_nodes"]
    assert found["recorded"] == ASKED
    assert found["repeated"] == 0
    assert len(found["begun_by_node"]) == 2
    assert sum(found["begun_by_node"].values()) == ASKED


def test_evaluation_actors_are_spread_over_both_nodes(figures):
    nodes = figures["two_nodes"]["begun_by_node"]
    # One that Ray started again counts twice.
    assert figures["pool"]["evaluators_by_node"].keys() == nodes.keys()
    assert min(figures["pool"]["evaluators_by_node"].values()) >= 1


def test_the_loss_of_an_evaluation_actor_for_good_loses_no_evaluation(figures):
    """The same search without a loss takes as many samples: nothing of it depends on who evaluates."""
    lost = figures["pool_node_killed"]
    assert len(lost["evaluators_by_node"]) == 2 and min(lost["evaluators_by_node"].values()) >= 1
    assert lost["samples"] == figures["pool"]["samples"] > 0
    assert lost["evaluations"] == figures["pool"]["evaluations"]


@pytest.mark.parametrize("run", ["two_nodes", "node_killed"])
def test_each_node_has_a_ledger_and_they_add_up(figures, run):
    energy, begun = figures[run]["energy"], figures[run]["begun_by_node"]
    EnergyLedger.from_json(energy).check()
    assert len(energy["nodes"]) == 2
    for node in energy["nodes"].values():
        for domain in node["domains"].values():
            if domain["node_j"] is not None:
                parts_j = sum(domain[part] for part in PARTS[:3])
                assert parts_j == pytest.approx(domain["node_j"], rel=1e-9)
    for part in PARTS:
        of_nodes_j = [
            domain[part]
            for node in energy["nodes"].values()
            for domain in node["domains"].values()
            if domain[part] is not None
        ]
        assert energy["total"][part] == pytest.approx(sum(of_nodes_j), rel=1e-9)
    owners_j = sum(owner["energy_j"] for owner in energy["owners"].values())
    assert energy["total"]["trials_j"] == pytest.approx(owners_j, rel=1e-9)
    for meter in energy["meters"]:
        owners = [entry["lease"]["owner"] for entry in meter["leases"].values()]
        assert len([owner for owner in owners if owner != "overhead"]) == begun[meter["node"]]


def test_two_nodes_on_one_machine_do_not_count_it_twice(figures):
    """Memory draws constant power where it is modelled, so that its energy is that power times the time."""
    energy = figures["two_nodes"]["energy"]
    memory = [node["domains"]["ram"] for node in energy["nodes"].values()]
    assert len({node["machine"] for node in energy["nodes"].values()}) == 1
    assert energy["total"]["shared_machines"] == []
    assert all("this node's part of a machine with 2 nodes" in domain["source"] for domain in memory)
    if all(domain["quality"] == "estimated" for domain in memory):
        seconds = energy["meters"][0]["duration_s"]
        power_w = sum(domain["idle_power_w"] for domain in memory)
        assert sum(domain["node_j"] for domain in memory) == pytest.approx(power_w * seconds, rel=0.01)


def test_the_loss_of_a_node_loses_no_evaluation(figures):
    found = figures["node_killed"]
    assert found["recorded"] == ASKED
    # One processor there, so one candidate was out, and it alone began again, unless it was just done.
    assert found["repeated"] <= 1
    assert sum(found["begun_by_node"].values()) == ASKED + found["repeated"]


def test_the_ledger_of_a_lost_node_stays_and_says_so(figures):
    nodes = figures["node_killed"]["energy"]["nodes"]
    begun = figures["node_killed"]["begun_by_node"]
    lost = [name for name, node in nodes.items() if "ended" in node]
    assert len(lost) == 1
    assert nodes[lost[0]]["domains"]["cpu"]["trials_j"] > 0
    assert begun[lost[0]] >= 1
    leases = next(
        meter["leases"] for meter in figures["node_killed"]["energy"]["meters"] if meter["node"] == lost[0]
    ).values()
    assert [entry["energy"]["closed_by"] for entry in leases].count("process gone") == 1
    assert not [name for name in figures["two_nodes"]["energy"]["nodes"].values() if "ended" in name]


@pytest.mark.long
def test_a_search_whose_whole_cluster_is_lost_goes_on_on_a_new_one(raylets, folder):
    run = folder / "run"
    arguments = ("--run-dir", run, "--candidates", 14, "--seconds", 0.3)
    with raylets.TwoNodes(folder / "a") as cluster:
        cluster.start(cpus=2)
        driver = subprocess.Popen(
            command(*arguments, "--address", cluster.address),
            env=cluster.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        before = _wait_for_lines(run / "evaluations.jsonl", 4, driver)
    try:
        assert driver.wait(timeout=60) != 0
    finally:
        raylets.kill_tree(driver.pid)
    assert before < 14
    kept = (run / "evaluations.jsonl").read_text(encoding="utf-8")
    with raylets.TwoNodes(folder / "b") as cluster:
        cluster.start(cpus=2)
        done = subprocess.run(
            command(*arguments, "--address", cluster.address, "--json", folder / "resumed.json"),
            env=cluster.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    after = (run / "evaluations.jsonl").read_text(encoding="utf-8")
    assert after.startswith(kept)
    rows = [json.loads(line) for line in after.splitlines()]
    assert len(rows) == len({row["arch_id"] for row in rows}) == 14
    assert len(EnergyLedger.of_folder(run).nodes()) == 2


def _wait_for_lines(path, count, process):
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        lines = path.read_text(encoding="utf-8").count("\n") if path.exists() else 0
        if lines >= count:
            return lines
        time.sleep(0.05)
    raise AssertionError(f"{path} did not get {count} lines")
