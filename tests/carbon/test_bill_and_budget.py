"""What a search may cost, and what it will."""

import json
import time

import pytest

from nasray.carbon.account import LocalAccount
from nasray.carbon.bill import Bill, StageEstimate, duration
from nasray.carbon.budget import Budget, Spending
from nasray.carbon.intensity import CarbonIntensity
from nasray.carbon.ledger import EnergyLedger
from nasray.carbon.snapshot_part import SnapshotPart

HALF = CarbonIntensity(g_per_kwh=500.0, source="test")


def stage(name, *, hours=1.0, energy_j=3.6e6, evaluations=0):
    return StageEstimate(name=name, evaluations=evaluations, hours=hours, energy_j=energy_j, disk_bytes=1000)


def bill(*stages, pue=1.0):
    return Bill(stages=stages, intensity=HALF, pue=pue, power_w=10.0, quality="estimated", calibration="from 3 s")


def test_the_tightest_limit_counts() -> None:
    spent = Spending(hours=1.0, energy_j=7.2e6, carbon_g=300.0)
    assert Budget().used(spent) == 0
    assert Budget(hours=4).used(spent) == 0.25
    assert Budget(hours=4, kwh=4).used(spent) == 0.5
    assert Budget(hours=4, kwh=4, co2_kg=0.25).used(spent) == pytest.approx(1.2)
    assert not Budget() and Budget(kwh=1)


def test_what_is_limited_has_to_be_known() -> None:
    unknown = Spending(hours=1.0, energy_j=None, carbon_g=None)
    assert Budget(hours=2).used(unknown) == 0.5
    with pytest.raises(ValueError, match="`budget-kwh` needs the energy of every node"):
        Budget(kwh=1).used(unknown)
    with pytest.raises(ValueError, match="`budget-co2-kg` needs the energy"):
        Budget(co2_kg=1).used(unknown)


@pytest.mark.parametrize("name", ["co2_kg", "kwh", "hours"])
@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), float("inf")])
def test_limits_must_be_positive(name, limit) -> None:
    with pytest.raises(ValueError, match=f"`budget-{name.replace('_', '-')}` must be a positive number"):
        Budget(**{name: limit})


def test_a_bill_adds_up() -> None:
    total = bill(stage("search", evaluations=10), stage("final", hours=2.0), pue=1.5).total
    assert (total.hours, total.energy_j, total.evaluations, total.disk_bytes) == (3.0, 7.2e6, 10, 2000)
    assert bill(pue=1.5).carbon_g(7.2e6) == pytest.approx(2 * 1.5 * 500)
    assert bill(stage("a"), stage("b", energy_j=None)).total.energy_j is None


def test_part_of_a_bill_is_what_is_reserved() -> None:
    spending = bill(stage("search"), stage("final", hours=2.0)).spending(["final"])
    assert spending == Spending(hours=2.0, energy_j=3.6e6, carbon_g=500.0)


def test_a_bill_says_whether_the_budget_is_enough() -> None:
    lines = bill(stage("search", evaluations=1234)).lines(Budget(kwh=0.5))
    assert any("1,234 evaluations" in line and "1 h 0 min" in line and "0.5 kg CO2e" in line for line in lines)
    assert lines[-1] == "Budget: 0.5 kWh; the search would take 200% of it, so it will be ended early."
    assert "takes 50% of it" in bill(stage("search")).lines(Budget(kwh=2))[-1]
    assert bill(stage("search")).lines(is_resumed=True)[0].startswith("Bill of the whole run, what is done included (")
    unknown = bill(stage("search", energy_j=None)).lines(Budget(kwh=2))
    assert "energy unknown" in unknown[1] and "whether the search fits is unknown" in unknown[-1]


def test_a_bill_is_json() -> None:
    value = json.loads(json.dumps(bill(stage("search"), pue=1.2).to_json()))
    assert value["total"]["carbon_g"] == pytest.approx(600)
    assert value["stages"][0]["name"] == "search"


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.2, "4.2 s"), (42, "42 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (3600, "1 h 0 min")]
)
def test_durations_read_well(seconds, text) -> None:
    assert duration(seconds / 3600) == text


def test_a_local_account_is_kept_and_goes_on(tmp_path) -> None:
    with LocalAccount(HALF, folder=tmp_path) as account:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            account.refresh()
    first = EnergyLedger.of_folder(tmp_path)
    first.check()
    assert first.energy_j > 0 and first.hours > 0
    assert (tmp_path / "emissions.csv").exists()
    with LocalAccount(HALF, folder=tmp_path) as account:
        assert account.spending().energy_j >= first.energy_j
    assert EnergyLedger.of_folder(tmp_path).hours > first.hours


def test_what_is_reserved_ends_a_search_earlier() -> None:
    account = LocalAccount(HALF, budget=Budget(hours=1.0))
    account._earlier_hours = 0.7
    assert not account.is_spent()
    assert not account.is_spent(Spending(hours=0.2, energy_j=None, carbon_g=None))
    assert account.is_spent(Spending(hours=0.4, energy_j=None, carbon_g=None))


def test_a_damaged_account_is_refused_to_readers(tmp_path) -> None:
    (tmp_path / "energy.json").write_text("{")
    with pytest.raises(ValueError, match=r"energy\.json is damaged .* Go on with the run"):
        EnergyLedger.of_folder(tmp_path)


def test_a_later_snapshot_may_leave_out_leases_that_ended_before() -> None:
    domain = {"node_j": 3.0, "trials_j": 3.0, "other_j": 0.0, "idle_j": 0.0, "quality": "measured", "source": "x"}
    lease = {
        "lease": {},
        "energy": {
            "owner": "a",
            "stage": "s",
            "domains": {"cpu": {"energy_j": 3.0, "quality": "measured", "source": "x", "missing_s": 0.0}},
            "duration_s": 1.0,
            "num_attempts": 1,
            "closed_by": "caller",
            "energy_j": 3.0,
            "quality": "measured",
        },
    }
    whole = {"node": "n", "meter_id": "m", "sequence": 1, "duration_s": 1.0, "domains": {"cpu": domain}}
    ledger = EnergyLedger(intensity=HALF)
    ledger.add({**whole, "leases": {"m-0": lease}})
    ledger.add({**whole, "sequence": 2, "leases": {}})
    ledger.check()
    assert ledger.owners()["a"].energy_j == 3.0
    assert ledger.energy_j == 3.0


def snapshot(leases, *, node_j, idle_j, sequence=1, duration_s=10.0):
    trials_j = sum(leases.values())
    domain = {"node_j": node_j, "trials_j": trials_j, "other_j": node_j - idle_j - trials_j, "idle_j": idle_j}
    energy = {"duration_s": 1.0, "num_attempts": 1, "closed_by": None, "stage": "s", "quality": "measured"}
    return {
        "node": "n",
        "meter_id": "m",
        "sequence": sequence,
        "duration_s": duration_s,
        "domains": {"cpu": domain | {"quality": "measured", "source": "x", "missing_s": 0.0, "idle_power_w": 1.0}},
        "leases": {
            key: {
                "lease": {},
                "energy": energy
                | {"owner": key, "energy_j": joules}
                | {"domains": {"cpu": {"energy_j": joules, "quality": "measured", "source": "x", "missing_s": 0.0}}},
            }
            for key, joules in leases.items()
        },
    }


def test_an_account_gets_its_part_of_a_meter_that_serves_others_too() -> None:
    part = SnapshotPart(snapshot({"stranger": 5.0, "gone": 7.0}, node_j=20.0, idle_j=2.0))
    now = snapshot({"stranger": 9.0, "mine": 3.0, "gone": 7.0}, node_j=40.0, idle_j=5.0, sequence=2, duration_s=30.0)
    mine = part.of(now)
    ledger = EnergyLedger(intensity=HALF)
    ledger.add(mine)
    ledger.check()
    domain = mine["domains"]["cpu"]
    assert (domain["node_j"], domain["trials_j"], domain["idle_j"]) == (20.0, 3.0, 3.0)
    assert domain["other_j"] == 14.0  # the stranger's 4 among them
    assert mine["duration_s"] == 20.0
    assert ledger.owners().keys() == {"mine"}


def test_a_meter_of_its_own_is_the_whole_part() -> None:
    whole = snapshot({"mine": 3.0}, node_j=10.0, idle_j=2.0)
    mine = SnapshotPart().of(whole)
    assert mine["domains"] == whole["domains"] and mine["leases"] == whole["leases"]
    assert mine["meter_id"] != whole["meter_id"]


def test_a_budget_counts_what_is_known_where_a_part_is_unknown() -> None:
    account = LocalAccount(HALF, budget=Budget(kwh=1e-6))  # 3.6 J
    value = snapshot({"known": 3.0, "half": 1.0}, node_j=10.0, idle_j=2.0)
    value["leases"]["half"]["energy"]["domains"]["gpu:x"] = {
        "energy_j": None,
        "quality": "unavailable",
        "source": "no counter",
        "missing_s": 0.0,
    }
    value["leases"]["half"]["energy"]["energy_j"] = None
    account._take_in([value])
    assert account.spending().energy_j is None
    assert account.is_spent()


def test_an_account_whose_leases_cannot_be_read_is_refused(tmp_path) -> None:
    with LocalAccount(HALF, folder=tmp_path):
        pass
    value = json.loads((tmp_path / "energy.json").read_text())
    value["meters"][0]["leases"] = {"m-0": {"lease": {}}}
    (tmp_path / "energy.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match=r"energy\.json is damaged"):
        EnergyLedger.of_folder(tmp_path)
