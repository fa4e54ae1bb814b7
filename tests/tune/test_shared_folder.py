import os

import pytest
import ray

from nasray.tune import shared_folder
from nasray.tune.shared_folder import check_shared

pytestmark = pytest.mark.ray


@pytest.fixture
def second_node(cluster, monkeypatch):
    """This node under another id, beside itself."""
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    monkeypatch.setattr(shared_folder.ray, "nodes", lambda: [node, {**node, "NodeID": "0" * 56}])
    return node


def test_one_node_need_not_share_anything(cluster, tmp_path):
    check_shared(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_a_node_does_not_see_is_refused(second_node, tmp_path, monkeypatch):
    monkeypatch.setattr(
        shared_folder, "_problems", lambda marker, nodes: {"there": shared_folder._problem_here(marker / "x")}
    )
    with pytest.raises(
        ValueError, match=r"`run_dir` must be on storage that all nodes share, .* node there does not see"
    ):
        check_shared(tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_a_node_that_is_lost_meanwhile_is_no_reason_to_stop(second_node, tmp_path):
    check_shared(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_nodes_say_of_a_folder(second_node, tmp_path):
    marker = tmp_path / "marker"
    nodes = [second_node]
    assert shared_folder._problems(marker, nodes) == {second_node["NodeManagerHostname"]: "does not see"}
    marker.touch()
    assert shared_folder._problems(marker, nodes) == {}
    if os.geteuid():
        tmp_path.chmod(0o500)
        assert shared_folder._problems(marker, nodes) == {second_node["NodeManagerHostname"]: "may not write to"}
        tmp_path.chmod(0o700)
