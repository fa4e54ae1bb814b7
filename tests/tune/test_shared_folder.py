import os

import pytest
import ray

from nasray.tune import shared_folder
from nasray.tune.shared_folder import check_shared
from nasray.tune.storage_folder import StorageFolder

pytestmark = pytest.mark.ray


@pytest.fixture
def second_node(cluster, monkeypatch):
    """This node under another id, beside itself."""
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    monkeypatch.setattr(shared_folder.ray, "nodes", lambda: [node, {**node, "NodeID": "0" * 56}])
    return node


def test_one_node_need_not_share_anything(cluster, tmp_path):
    check_shared(StorageFolder.local(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_folder_that_a_node_does_not_see_is_refused(second_node, tmp_path, monkeypatch):
    monkeypatch.setattr(
        shared_folder,
        "_problems",
        lambda folder, marker, nodes: {"there": shared_folder._problem_here(folder / "x", marker)},
    )
    with pytest.raises(
        ValueError, match=r"`run_dir` must be on storage that all nodes share, .* node there does not see"
    ):
        check_shared(StorageFolder.local(tmp_path / "new"))
    assert not list((tmp_path / "new").iterdir())


def test_a_node_that_is_lost_meanwhile_is_no_reason_to_stop(second_node, tmp_path):
    check_shared(StorageFolder.local(tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_nodes_say_of_a_folder(second_node, tmp_path):
    folder, name = StorageFolder.local(tmp_path), second_node["NodeManagerHostname"]
    assert shared_folder._problems(folder, "marker", [second_node]) == {name: "does not see"}
    folder.write("marker", b"")
    assert shared_folder._problems(folder, "marker", [second_node]) == {}
    assert folder.files() == ["marker"]
    if os.geteuid():
        tmp_path.chmod(0o500)
        (problem,) = shared_folder._problems(folder, "marker", [second_node]).values()
        tmp_path.chmod(0o700)
        assert problem.startswith("cannot write to (")


def test_a_remote_storage_that_a_node_does_not_reach_is_refused_by_its_own_name(second_node, tmp_path, monkeypatch):
    def answer(folder, marker, nodes):
        return {"there": "cannot list (AccessDenied)"}

    monkeypatch.setattr(shared_folder, "_problems", answer)
    folder = StorageFolder.of(f"file://{tmp_path}") / "run"
    with pytest.raises(
        ValueError, match=r"`storage-path` must be .*, got file:///.*/run, which node there cannot list"
    ):
        check_shared(folder)
