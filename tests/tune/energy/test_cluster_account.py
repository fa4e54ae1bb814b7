"""The account of a cluster when a meter is lost, and what a host is called."""

import re
import subprocess
import sys
import time

import pytest
import ray

from nasray.carbon.intensity import CarbonIntensity
from nasray.tune.energy.account import ClusterAccount
from nasray.tune.energy.hosts import hosts_of, machine_of, this_host

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
    assert hosts_of([node]) == {node: there}
    assert re.fullmatch(r"[0-9a-f]{12}-\d+", there) or "-" in there
    assert machine_of(there) == there.partition("-")[0]


def test_a_node_that_is_gone_has_no_host(cluster):
    assert hosts_of(["0" * 56]) == {}


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
