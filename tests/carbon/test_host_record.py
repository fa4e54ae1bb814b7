"""One meter of a host, several nodes of a cluster on it: what each is charged, and what a loss leaves."""

import json
import math

import pytest

from nasray.carbon.fake import FakeClock, FakeProcesses, FakeSensor
from nasray.carbon.host_record import HostRecord
from nasray.carbon.intensity import CarbonIntensity
from nasray.carbon.lease import Lease
from nasray.carbon.ledger import EnergyLedger
from nasray.carbon.node_meter import NodeMeter

GPU = "gpu:GPU-a"
WHERE = {"host": "m-1", "machine": "m", "session": "s"}
FOUR, TWO = {"CPU": 4.0}, {"CPU": 2.0, "GPU": 1.0}


class Host:
    """A host with a meter, and the ledger that its record fills."""

    def __init__(self, meter_id="m", where=WHERE):
        self.clock, self.processes = FakeClock(), FakeProcesses()
        self.sensors = {name: FakeSensor(domain=name, idle_power_w=20.0) for name in ("cpu", GPU)}
        self.record = HostRecord(where, self.clock)
        self.book = EnergyLedger(intensity=CarbonIntensity(g_per_kwh=400.0, source="given"))
        self.present, self.ended, self.node_of = {}, {}, {}
        self.start(meter_id)

    def start(self, meter_id):
        self.meter = NodeMeter(
            list(self.sensors.values()),
            node="host",
            processes=self.processes,
            clock=self.clock,
            meter_id=meter_id,
            unavailable={"ram": "no model"},
        )

    def lease(self, node, pid, **reserved):
        self.processes.start(pid)
        lease = Lease(owner=f"trial-{pid}", stage="search", pid=pid, process_created_s=0.0, **reserved)
        key = self.meter.open(lease)
        self.node_of[key] = node
        return key

    def spend(self, cpu_j, gpu_j, *pids):
        self.clock.sleep(1.0)
        self.sensors["cpu"].spend(cpu_j)
        self.sensors[GPU].spend(gpu_j)
        for pid in pids:
            self.processes.work(pid, 1.0)
        self.meter.tick()

    def read(self):
        snapshot = self.meter.snapshot(self.record.since_s)
        for key, entry in snapshot["leases"].items():
            entry["node"] = self.node_of[key]
        self.keep(self.record.take(snapshot, self.present, self.ended))

    def keep(self, parts):
        for part in parts:
            self.book.add(json.loads(json.dumps(part)))
        self.book.check()

    def cpu(self, node, part="node_j"):
        return self.book.nodes()[node]["cpu"][part]


def test_nodes_on_one_host_add_up_to_it():
    host = Host()
    host.present = {"a": FOUR, "b": TWO}
    host.lease("a", 1, cpus=4.0)
    host.lease("b", 2, cpus=2.0, gpus={"GPU-a": 1.0})
    for _ in range(7):
        host.spend(101.3, 57.7, 1, 2)
        host.read()
    nodes = host.book.nodes()
    for name, total_j in (("cpu", 7 * 101.3), (GPU, 7 * 57.7)):
        assert math.fsum(nodes[node][name]["node_j"] for node in "ab") == pytest.approx(total_j, rel=1e-12)
    # The only GPU is b's, and so is all that nobody is charged of it.
    assert nodes["a"][GPU]["node_j"] == 0
    assert host.book.total()["node_j"] == pytest.approx(7 * 159.0, rel=1e-12)
    owners = host.book.owners()
    assert host.cpu("a", "trials_j") == pytest.approx(owners["trial-1"].domains["cpu"].energy_j, rel=1e-12)
    assert host.cpu("b", "trials_j") == pytest.approx(owners["trial-2"].domains["cpu"].energy_j, rel=1e-12)
    assert {nodes[node]["ram"]["node_j"] for node in "ab"} == {None}
    assert nodes["a"]["cpu"]["quality"] == "attributed"
    assert "a machine with 2 nodes" in nodes["a"]["cpu"]["source"]


def test_what_nobody_is_charged_goes_by_processors_while_a_node_is_there():
    host = Host()
    host.present = {"a": FOUR}
    host.spend(60.0, 0.0)
    host.read()
    host.present = {"a": FOUR, "b": TWO}
    host.spend(60.0, 0.0)
    host.read()
    host.present = {"b": TWO}
    host.ended = {"a": "2030-01-01T00:00:00+00:00"}
    host.spend(60.0, 0.0)
    host.read()
    assert host.cpu("a") == pytest.approx(60.0 + 40.0)
    assert host.cpu("b") == pytest.approx(20.0 + 60.0)
    written = host.book.to_json()["nodes"]
    assert written["a"]["ended"] == "2030-01-01T00:00:00+00:00"
    assert "ended" not in written["b"]


def test_nodes_that_offer_nothing_share_alike():
    host = Host()
    host.present = {"a": {}, "b": {}}
    host.spend(60.0, 10.0)
    host.read()
    assert host.cpu("a") == host.cpu("b") == pytest.approx(30.0)


def test_a_host_with_one_node_is_as_its_meter_says():
    host = Host()
    host.present = {"a": FOUR}
    host.lease("a", 1, cpus=8.0)
    host.spend(100.0, 30.0, 1)
    host.read()
    ours, theirs = host.book.nodes()["a"], host.meter.snapshot()["domains"]
    assert ours == theirs


def test_a_lost_meter_leaves_what_it_read_and_says_how_long_nobody_did():
    host = Host()
    host.present = {"a": FOUR}
    host.lease("a", 1, cpus=8.0)
    host.spend(100.0, 30.0, 1)
    host.read()
    before = host.cpu("a")
    host.clock.sleep(3.0)
    host.ended = {"a": "2030-01-01T00:00:00+00:00"}
    host.keep(host.record.lost(host.ended))
    assert host.cpu("a") == before == 100.0
    assert host.cpu("a", "missing_s") == pytest.approx(3.0)
    owner = host.book.owners()["trial-1"]
    assert owner.closed_by == "meter gone"
    assert owner.domains["cpu"].energy_j == pytest.approx(100.0)
    assert owner.missing_s == pytest.approx(3.0)
    assert host.book.to_json()["nodes"]["a"]["ended"]
    assert EnergyLedger.from_json(json.loads(json.dumps(host.book.to_json()))).to_json() == host.book.to_json()


def test_a_meter_that_starts_again_goes_on_in_the_same_ledger():
    host = Host()
    host.present = {"a": FOUR}
    host.lease("a", 1, cpus=8.0)
    host.spend(100.0, 0.0, 1)
    host.read()
    host.clock.sleep(2.0)
    host.start("m2")
    host.node_of.clear()
    host.lease("a", 2, cpus=8.0)
    host.spend(50.0, 0.0, 2)
    host.read()
    assert host.cpu("a") == pytest.approx(150.0)
    assert host.cpu("a", "missing_s") == pytest.approx(2.0)
    assert host.book.owners()["trial-1"].closed_by == "meter gone"
    assert host.book.owners()["trial-2"].domains["cpu"].energy_j == pytest.approx(50.0)


def test_a_meter_that_was_there_before_is_counted_from_then_on():
    host = Host()
    host.lease("a", 1, cpus=8.0)
    host.spend(100.0, 0.0, 1)
    first = host.meter.snapshot()
    for entry in first["leases"].values():
        entry["node"] = "a"
    host.record.begin(first)
    host.present = {"a": FOUR, "b": TWO}
    host.lease("b", 2, cpus=0.0)
    host.spend(40.0, 0.0, 2)
    host.read()
    assert host.cpu("a") + host.cpu("b") == pytest.approx(40.0)
    assert host.book.owners().keys() == {"trial-2"}


class Sharer:
    """One of the accounts that a host's meter serves."""

    def __init__(self, session, host):
        self.session, self.host = session, host
        self.record = HostRecord(WHERE | {"session": session}, host.clock)
        self.book = EnergyLedger(intensity=CarbonIntensity(g_per_kwh=400.0, source="given"))

    def begin(self, account_of):
        self.record.begin(shared_snapshot(self.host, account_of))

    def read(self, account_of):
        parts = self.record.take(shared_snapshot(self.host, account_of, self.record.since_s), {"a": FOUR}, {})
        for part in parts:
            self.book.add(json.loads(json.dumps(part)))
        self.book.check()

    def trials_j(self):
        return {owner: energy.domains["cpu"].energy_j for owner, energy in self.book.owners().items()}


def shared_snapshot(host, account_of, since_s=None):
    snapshot = host.meter.snapshot(since_s)
    for key, entry in snapshot["leases"].items():
        entry |= {"node": host.node_of[key], "account": account_of.get(key)}
    return snapshot


@pytest.mark.parametrize("ends", [False, True])
def test_accounts_that_share_a_meter_have_their_own_leases_whenever_those_open(ends):
    host, account_of = Host(), {}
    del host.sensors[GPU]
    host.start("m")
    one, two = Sharer("one", host), Sharer("two", host)

    def lease(account, pid, owner=None):
        host.processes.start(pid)
        owner = owner or f"trial-{pid}"
        key = host.meter.open(Lease(owner=owner, stage="search", pid=pid, process_created_s=0.0))
        host.node_of[key], account_of[key] = "a", account
        return key

    def spend(cpu_j, *pids):
        host.clock.sleep(1.0)
        host.sensors["cpu"].spend(cpu_j + 20.0)  # of it 20 at rest
        for pid in pids:
            host.processes.work(pid, 1.0)

    lease("one", 1)
    one.read(account_of)
    spend(100.0, 1)
    two.begin(account_of)
    keys = [lease("one", 2), lease("two", 3), lease(None, 4, "trial-2"), lease(None, 5, "trial-3")]
    unknown = lease(None, 6)  # of nobody knows whom
    for _ in range(3):
        spend(120.0, 1, 2, 3, 4, 5, 6)
        one.read(account_of)
        two.read(account_of)
    if ends:  # what ended long ago is told no more
        for key in [*keys, unknown]:
            host.meter.close(key)
        for _ in range(2):
            host.clock.sleep(100.0)
            one.read(account_of)
            two.read(account_of)
    assert one.trials_j() == pytest.approx({"trial-1": 160.0, "trial-2": 120.0})
    assert two.trials_j() == pytest.approx({"trial-3": 120.0})
    domains = [sharer.book.nodes()["a"]["cpu"] for sharer in (one, two)]
    assert [domain["node_j"] for domain in domains] == pytest.approx([540.0, 420.0])
    assert [domain["trials_j"] for domain in domains] == pytest.approx([280.0, 120.0])
    assert [domain["other_j"] for domain in domains] == pytest.approx([180.0, 240.0])


def test_leases_without_an_account_are_of_the_only_one_that_is_active():
    host, account_of = Host(), {}
    one, two = Sharer("one", host), Sharer("two", host)
    key = host.lease("a", 1)
    account_of[key] = "one"
    host.lease("a", 2)
    host.spend(100.0, 0.0, 1, 2)
    one.read(account_of)
    host.meter.close(key)
    two.begin(account_of)
    host.lease("a", 3)
    host.spend(100.0, 0.0, 2, 3)
    two.read(account_of)
    assert one.book.owners().keys() == {"trial-1", "trial-2"}
    assert two.book.owners().keys() == {"trial-3"}


def test_containers_of_one_machine_are_named():
    hosts = [Host(f"m{number}", WHERE | {"host": f"m-{number}"}) for number in range(2)]
    book = hosts[0].book
    for host, node in zip(hosts, "ab", strict=True):
        host.book, host.present = book, {node: FOUR}
        host.spend(100.0, 0.0)
        host.read()
    assert book.total()["shared_machines"] == [["a", "b"]]
    later = Host("m3", WHERE | {"host": "m-3", "session": "another"})
    later.book, later.present = book, {"c": FOUR}
    later.read()
    assert book.total()["shared_machines"] == [["a", "b"]]
