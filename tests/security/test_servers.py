"""Whatever listens on a port is for this machine alone."""

import inspect

import psutil
import pytest
import ray

from nasray.tune.session import ClusterConfig, ray_session


def test_rays_dashboard_is_for_this_machine():
    assert inspect.signature(ray.init).parameters["dashboard_host"].default in ("127.0.0.1", "localhost", "::1")


@pytest.mark.ray
def test_a_local_ray_listens_on_loopback_only():
    if ray.is_initialized():
        pytest.skip("another test's Ray is up in this process")
    with ray_session(ClusterConfig(num_cpus=1)):
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = {(name, address) for process in processes for name, address in listeners(process)}
        assert ray.get(ray.remote(lambda: 1).remote()) == 1
    assert listening
    others = {(name, address) for name, address in listening if address.rpartition(":")[2] not in ("127.0.0.1", "1")}
    assert not others


def listeners(process):
    """Yield name and address of every port that a process listens on."""
    try:
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                yield process.name(), connection.laddr.ip
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return
