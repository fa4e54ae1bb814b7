"""The ledger: merging, totals, factors, and codecarbon's columns."""

import copy
import csv
import json
from dataclasses import fields

import pytest

from nasray.carbon.fake import FakeClock, FakeProcesses, FakeSensor
from nasray.carbon.intensity import CarbonIntensity
from nasray.carbon.lease import DomainEnergy, Lease, LeaseEnergy
from nasray.carbon.ledger import EnergyLedger
from nasray.carbon.node_meter import NodeMeter


def meter(node="n1", meter_id="m1", unavailable=None):
    clock, processes = FakeClock(), FakeProcesses()
    sensor = FakeSensor(domain="cpu", idle_power_w=0.0)
    made = NodeMeter([sensor], node=node, processes=processes, clock=clock, meter_id=meter_id, unavailable=unavailable)
    made.fakes = (clock, processes, sensor)
    return made


def run(made, owner, pid, energy_j, *, stage="search", attempt=0):
    clock, processes, sensor = made.fakes
    processes.start(pid)
    lease = Lease(owner=owner, stage=stage, pid=pid, process_created_s=0.0, cpus=1.0, memory_bytes=0, attempt=attempt)
    key = made.open(lease)
    clock.sleep(10.0)
    processes.work(pid, 1.0)
    sensor.spend(energy_j)
    made.close(key)


def ledger(**settings):
    return EnergyLedger(intensity=CarbonIntensity(g_per_kwh=400.0, source="given"), **settings)


def cpu_j(energy):
    return energy.domains["cpu"].energy_j


def test_attempts_owners_stages_and_nodes_add_up():
    first, second = meter(), meter("n2", "m2")
    run(first, "a", 1, 100.0)
    run(first, "a", 2, 50.0, attempt=1)
    run(second, "b", 1, 30.0, stage="final training")
    book = ledger()
    for made in (first, second):
        book.add(made.snapshot())
    book.check()
    owners = book.owners()
    assert {owner: cpu_j(energy) for owner, energy in owners.items()} == {"a": 150.0, "b": 30.0}
    assert (owners["a"].num_attempts, owners["a"].duration_s) == (2, 20.0)
    assert {stage: cpu_j(energy) for stage, energy in book.stages().items()} == {
        "search": 150.0,
        "final training": 30.0,
    }
    assert sum(domains["cpu"]["node_j"] for domains in book.nodes().values()) == 180.0


def test_a_later_snapshot_replaces_an_earlier_one_and_a_restarted_meter_adds():
    made, book = meter(), ledger()
    run(made, "a", 1, 100.0)
    early = made.snapshot()
    run(made, "b", 2, 50.0)
    late = made.snapshot()
    for snapshot in (early, late, late, early):
        book.add(snapshot)
    assert book.nodes()["n1"]["cpu"]["node_j"] == 150.0
    restarted = meter(meter_id="m9")
    run(restarted, "a", 1, 7.0)
    book.add(restarted.snapshot())
    assert book.nodes()["n1"]["cpu"]["node_j"] == 157.0
    assert cpu_j(book.owners()["a"]) == 107.0
    book.check()


def test_carbon_is_energy_times_pue_times_intensity():
    assert ledger(pue=1.5).carbon_g(3.6e6) == pytest.approx(600.0)
    with pytest.raises(ValueError, match="`pue` must be a finite number of at least 1"):
        ledger(pue=0.9)


def test_the_json_is_strict_complete_and_can_be_gone_on_with():
    made, book = meter(unavailable={"ram": "no model"}), ledger(pue=1.2)
    run(made, "a", 1, 100.0)
    book.add(made.snapshot())
    written = json.loads(json.dumps(book.to_json(), allow_nan=False))
    keys = {"node_j", "trials_j", "other_j", "idle_j", "quality", "source"}
    assert keys <= written["nodes"]["n1"]["domains"]["cpu"].keys()
    assert written["nodes"]["n1"]["domains"]["ram"]["node_j"] is None
    assert written["factors"]["pue"] == 1.2
    assert "embodied carbon" in written["not_covered"]
    assert json.loads(json.dumps(EnergyLedger.from_json(written).to_json())) == written
    with pytest.raises(ValueError, match="A ledger must hold"):
        EnergyLedger.from_json({})


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [("idle_j", 1.0, "Trials \\+ other \\+ idle must be"), ("other_j", -1.0, "must be 0 or more")],
)
def test_check_finds_what_does_not_add_up(part, value, message):
    made = meter()
    run(made, "a", 1, 100.0)
    snapshot = copy.deepcopy(made.snapshot())
    snapshot["domains"]["cpu"][part] = value
    book = ledger()
    book.add(snapshot)
    with pytest.raises(ValueError, match=message):
        book.check()


def test_check_finds_a_lease_counted_twice():
    made = meter()
    run(made, "a", 1, 100.0)
    snapshot = copy.deepcopy(made.snapshot())
    snapshot["leases"]["copy"] = next(iter(snapshot["leases"].values()))
    book = ledger()
    book.add(snapshot)
    with pytest.raises(ValueError, match="The leases must add up"):
        book.check()


def test_emissions_have_the_columns_of_codecarbon(tmp_path):
    from codecarbon.output_methods.emissions_data import EmissionsData

    def domain(value):
        return DomainEnergy(energy_j=value, quality="estimated", source="s")

    energy = LeaseEnergy(owner="a", stage="s", duration_s=10.0, domains={"cpu": domain(3.6e6), "ram": domain(3.6e6)})
    unknown = LeaseEnergy(owner="b", stage="s", duration_s=10.0, domains={"cpu": domain(3.6e6), "ram": domain(None)})
    book, key = ledger(pue=2.0), {"lease": {}}
    leases = {owner.owner: {**key, "energy": owner.to_json()} for owner in (energy, unknown)}
    book.add({"meter_id": "m", "sequence": 1, "node": "n", "domains": {}, "leases": leases})
    book.write(tmp_path / "new")
    with (tmp_path / "new" / "emissions.csv").open(encoding="utf-8") as file:
        known_row, unknown_row = csv.DictReader(file)
    assert list(known_row) == [field.name for field in fields(EmissionsData)]
    assert float(known_row["energy_consumed"]) == 2.0
    assert float(known_row["emissions"]) == pytest.approx(1.6)
    assert (known_row["run_id"], float(known_row["cpu_power"]), float(known_row["gpu_energy"])) == ("a", 360_000, 0)
    assert (unknown_row["ram_energy"], unknown_row["energy_consumed"], unknown_row["emissions"]) == ("", "", "")
    assert json.loads((tmp_path / "new" / "energy.json").read_text())["owners"]["b"]["carbon_g"] is None


def test_energies_and_leases_survive_json():
    energy = LeaseEnergy(
        owner="a",
        stage="s",
        duration_s=1.0,
        domains={"cpu": DomainEnergy(energy_j=1.0, quality="measured", source="x")},
    )
    lease = Lease(owner="a", stage="s", pid=1, process_created_s=2.0, cpus=1.0, gpus={"GPU-a": 0.5}, memory_bytes=9)
    assert LeaseEnergy.from_json(json.loads(json.dumps(energy.to_json()))) == energy
    assert Lease.from_json(json.loads(json.dumps(lease.to_json()))) == lease
    bad = energy.to_json()
    bad["domains"]["cpu"]["quality"] = "good"
    with pytest.raises(ValueError, match=r"`domains\.cpu\.quality` must be .measured"):
        LeaseEnergy.from_json(bad)
    with pytest.raises(ValueError, match="A lease must hold"):
        Lease.from_json({"owner": "a"})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"owner": ""}, "`owner` must not be empty"),
        ({"cpus": -1.0}, "`cpus` must be 0 or more"),
        ({"gpus": {"GPU-a": 2.0}}, "`gpus` must hold fractions"),
        ({"memory_bytes": -1}, "`memory_bytes` must be 0 or more"),
        ({"attempt": -1}, "`attempt` must be 0 or more"),
    ],
)
def test_leases_refuse_what_cannot_be(setting, message):
    with pytest.raises(ValueError, match=message):
        Lease(**{"owner": "a", "stage": "s", "pid": 1, "process_created_s": 0.0} | setting)


def test_an_unknown_part_makes_the_sum_unknown_and_owners_do_not_mix():
    def energy(owner, value):
        quality = "measured" if value is not None else "unavailable"
        domains = {"cpu": DomainEnergy(energy_j=value, quality=quality, source="x")}
        return LeaseEnergy(owner=owner, stage="s", duration_s=1.0, domains=domains)

    both = energy("a", 1.0) + energy("a", None)
    assert (both.energy_j, both.quality) == (None, "unavailable")
    with pytest.raises(ValueError, match="`owner` must be the same"):
        energy("a", 1.0) + energy("b", 1.0)
