"""What an account says when a part of it is lost: unavailable, never 0."""

import json

import pytest

from nasray.carbon.intensity import CarbonIntensity
from nasray.carbon.ledger import EnergyLedger
from nasray.carbon.lost_part import LOST

HALF = CarbonIntensity(g_per_kwh=500.0, source="test")


def snapshot(meter_id="m", closed_by=None):
    domain = {"node_j": 9.0, "trials_j": 7.0, "other_j": 1.0, "idle_j": 1.0, "quality": "measured", "source": "x"}
    energy = {
        "owner": "a",
        "stage": "search",
        "domains": {"cpu": {"energy_j": 7.0, "quality": "measured", "source": "x", "missing_s": 0.0}},
        "duration_s": 3.0,
        "num_attempts": 1,
        "closed_by": closed_by,
    }
    return {
        "node": "n",
        "meter_id": meter_id,
        "sequence": 1,
        "duration_s": 3.0,
        "clock_steps_back": 0,
        "domains": {"cpu": {**domain, "idle_power_w": 1.0, "missing_s": 0.0}},
        "leases": {"1": {"lease": {}, "energy": {**energy, "energy_j": 7.0, "quality": "measured"}}},
    }


def written(folder):
    ledger = EnergyLedger(intensity=HALF)
    ledger.add(snapshot())
    ledger.hours = 2.0
    ledger.write(folder)
    return ledger


def test_leases_of_a_process_that_ended_are_closed_and_keep_their_energy(tmp_path):
    written(tmp_path)
    ledger = EnergyLedger.of_folder(tmp_path, intensity=HALF)
    assert ledger.owners()["a"].closed_by == "process gone"
    assert (ledger.energy_j, ledger.hours) == (7.0, 2.0)
    ledger.check()


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_lost_account_is_unavailable(tmp_path, damage):
    written(tmp_path)
    path = tmp_path / "energy.json"
    if damage == "missing":
        path.unlink()
    else:
        path.write_text(path.read_text()[:300])
    ledger = EnergyLedger.of_folder(tmp_path, intensity=HALF)
    ledger.add(snapshot("later"))
    assert ledger.energy_j is None
    assert ledger.known_j == 7.0
    assert ledger.quality == "unavailable"
    assert ledger.owners()["a"].energy_j == 7.0
    lost = ledger.owners()[LOST]
    assert lost.energy_j is None
    assert f"energy.json was {damage.replace('truncated', 'damaged')} when the run went on" in lost.source
    ledger.check()
    ledger.write(tmp_path)
    again = EnergyLedger.of_folder(tmp_path)
    assert again.energy_j is None
    assert LOST in json.loads(path.read_text())["owners"]
    assert len(list(tmp_path.glob("energy.json.damaged-*"))) == (damage == "truncated")


def test_first_account_of_a_run_has_lost_nothing(tmp_path):
    assert EnergyLedger.of_folder(tmp_path, intensity=HALF).owners() == {}
    (tmp_path / "evaluations.jsonl").write_text("{}\n")
    assert list(EnergyLedger.of_folder(tmp_path, intensity=HALF).owners()) == [LOST]
