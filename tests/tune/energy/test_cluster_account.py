"""The account of a cluster when a meter is lost, and what a host is called."""

import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import RayError

from nasray.carbon.intensity import CarbonIntensity
from nasray.tune.energy.account import ClusterAccount
from nasray.tune.energy.answers import Answers
from nasray.tune.energy.hosts import ask_host, machine_of, this_host

pytestmark = pytest.mark.ray
FRANCE = CarbonIntensity(g_per_kwh=56.0, source="test")


def refresh_until(account, is_there):
    end = time.monotonic() + 30
    while not is_there() and time.monotonic() < end:
        account.refresh(now=True)
        time.sleep(0.1)
    assert is_there()


def test_all_processes_of_a_machine_give_it_the_same_name(cluster):
    node = ray.get_runtime_context().get_node_id()
    there = ray.get(ray.remote(num_cpus=0)(this_host).remote())
    assert there == this_host()
    assert ray.get(ask_host(node)) == there
    assert re.fullmatch(r"[0-9a-f]{12}-\d+", there) or "-" in there
    assert machine_of(there) == there.partition("-")[0]


def test_a_node_that_is_gone_has_no_host(cluster):
    hosts = Answers(timeout_s=30.0)
    hosts.ask("gone", ask_host("0" * 56))
    ((name, answer),) = hosts.take(waits=True)
    assert name == "gone" and "gone" not in hosts
    with pytest.raises(RayError, match="0000"):
        ray.get(answer)


@ray.remote(num_cpus=0)
class Gate:
    """Answers when it is told to."""

    def __init__(self):
        self.opened = threading.Event()

    def open(self):
        self.opened.set()

    def wait(self, answer):
        self.opened.wait()
        return answer


def test_who_was_waited_for_in_vain_is_not_waited_for_again(cluster, monkeypatch):
    gate, waited_s = Gate.options(max_concurrency=4).remote(), []
    wait = ray.wait
    monkeypatch.setattr(ray, "wait", lambda *asked, **how: waited_s.append(how["timeout"]) or wait(*asked, **how))
    answers = Answers(timeout_s=0.2)
    assert list(answers.take(waits=True)) == [] and not waited_s
    answers.ask("a", gate.wait.remote(1))
    assert list(answers.take(waits=False)) == [] and waited_s == [0]
    for _ in range(2):
        assert list(answers.take(waits=True)) == []
    assert waited_s == [0, 0.2, 0, 0]
    answers.ask("b", ray.put(2))
    assert [(name, ray.get(answer)) for name, answer in answers.take(waits=True)] == [("b", 2)]
    assert "a" in answers and "b" not in answers
    ray.get(gate.open.remote())
    answers = take_until(answers)
    assert [(name, ray.get(answer)) for name, answer in answers] == [("a", 1)]


def take_until(answers):
    end = time.monotonic() + 30
    while not (taken := list(answers.take(waits=False))):
        assert time.monotonic() < end
        time.sleep(0.01)
    return taken


def test_a_silent_node_and_a_silent_meter_do_not_hold_up_a_refresh(cluster, monkeypatch):
    node, wait, get, waited_s = ray.get_runtime_context().get_node_id(), ray.wait, ray.get, []
    gate = Gate.options(max_concurrency=4).remote()
    with ClusterAccount(FRANCE, is_cross_checked=False) as account:
        (host,) = account._meters
        offered = account._present[node]
        nodes = [{"NodeID": name, "Alive": True, "Resources": offered} for name in (node, "silent", "known")]
        monkeypatch.setattr(ray, "nodes", lambda: nodes)
        silent = {"silent": gate.wait.remote("m-1"), "known": ray.put("m-2")}
        monkeypatch.setattr("nasray.tune.energy.account.ask_host", silent.get)
        start = "nasray.tune.energy.account.start_meters"
        monkeypatch.setattr(start, lambda nodes, **how: {host: (Meter(gate), False) for host in nodes})
        monkeypatch.setattr(ray, "wait", lambda *asked, **how: waited_s.append(how["timeout"]) or wait(*asked, **how))
        for _ in range(3):
            account._next_look_s = account._next_refresh = 0.0
            account.refresh()
        assert waited_s and not any(waited_s)
        assert account._host_of == {node: host, "known": "m-2"} and "silent" in account._hosts
        assert account._known.keys() == {"m-2"} and account._meters.keys() == {host}
        monkeypatch.undo()
        get(gate.open.remote())
        account._hosts, account._firsts = Answers(0.0), Answers(0.0)


class Meter:
    """Stands for the handle of a meter that is silent."""

    def __init__(self, gate):
        self.snapshot = SimpleNamespace(remote=lambda since_s: gate.wait.remote({}))


def test_a_lost_meter_is_replaced_and_its_figures_stay(cluster):
    with ClusterAccount(FRANCE, is_cross_checked=False) as account:
        node = ray.get_runtime_context().get_node_id()
        refresh_until(account, lambda: account.ledger.nodes()[node]["ram"]["node_j"] > 0)
        before_j = account.ledger.total()["node_j"]
        (first,) = account._meters.values()
        ray.kill(first)

        refresh_until(account, lambda: not account._meters)
        account._next_look_s = float("inf")
        account.refresh(now=True)  # with nobody to ask
        assert account.ledger.nodes()[node]["cpu"]["missing_s"] > 0
        assert account.ledger.owners()["overhead"].closed_by == "meter gone"
        account._next_look_s = 0.0
        account.watch_new_nodes()
        refresh_until(account, lambda: account.ledger.total()["node_j"] > before_j + 1)
        assert list(account._meters.values()) != [first]
        assert account.ledger.owners()["overhead"].num_attempts == 2
        account.ledger.check()


def test_two_accounts_of_one_job_each_have_their_own_trials(cluster):
    @ray.remote(num_cpus=0)
    class Worker:
        def work(self, owner, account):
            from nasray.tune.energy.leases import open_lease_here

            open_lease_here(owner, "test", account=account)
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                pass

    with ClusterAccount(FRANCE, is_cross_checked=False) as one, ClusterAccount(FRANCE, is_cross_checked=False) as two:
        workers = {owner: Worker.remote() for owner in "ab"}
        ray.get([workers["a"].work.remote("a", one.session), workers["b"].work.remote("b", two.session)])
        for account, owner in ((one, "a"), (two, "b")):
            account.refresh(now=True)
            owners = account.ledger.owners()
            assert owners.keys() - {"overhead"} == {owner} and owners[owner].energy_j > 0
            account.ledger.check()


def test_a_process_meters_one_cluster_after_another():
    program = """
from nasray.carbon.intensity import CarbonIntensity
from nasray.tune.energy.account import ClusterAccount
from nasray.tune.session import ClusterConfig, ray_session

for _ in range(2):
    with ray_session(ClusterConfig(num_cpus=1)):
        with ClusterAccount(CarbonIntensity(g_per_kwh=56.0, source="test"), is_cross_checked=False) as account:
            account.refresh(now=True)
        assert list(account.ledger.owners()) == ["overhead"]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
