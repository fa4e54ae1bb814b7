"""Whether all nodes of a cluster reach the same storage, asked before hours of work rest on it."""

from __future__ import annotations

import uuid

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nasray.tune.storage_folder import StorageFolder, cause, reaching

_TIMEOUT_S = 60.0


def check_shared(folder: StorageFolder) -> None:
    """Check that every node of the Ray that is up lists and writes a folder of this process, which is made.

    A node that is lost meanwhile, or does not answer within a minute, is no reason to stop.

    Args:
        folder: For checkpoints and results; mounted, or remote.

    Raises:
        ValueError: If a node does not see it, or may not write to it.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    if not others:
        return
    marker = f".seen-by-all-{uuid.uuid4().hex[:8]}"
    with reaching(folder):
        folder.write(marker, b"")
        try:
            for node, problem in _problems(folder, marker, others).items():
                raise ValueError(_refusal(folder, node, problem))
        finally:
            folder.remove_file(marker)


def _refusal(folder: StorageFolder, node: str, problem: str) -> str:
    if not folder.scheme:
        return (
            f"`run_dir` must be on storage that all nodes share, got {folder}, which node {node} {problem}. "
            "Name a folder that is mounted at the same path everywhere, or a --storage-path that all nodes reach."
        )
    return (
        f"`storage-path` must be a storage that every node can list and write, got {folder}, which node {node} "
        f"{problem}. Give that node the right to it, as by its role or environment, or name another storage."
    )


def _problems(folder: StorageFolder, marker: str, nodes: list[dict[str, object]]) -> dict[str, str]:
    """Return what is wrong with the folder, by the name of the node."""
    ask = ray.remote(_problem_here)
    answers = {
        ask.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(str(node["NodeID"]), soft=False)
        ).remote(folder, marker): str(node["NodeManagerHostname"])
        for node in nodes
    }
    ready, _ = ray.wait(list(answers), num_returns=len(answers), timeout=_TIMEOUT_S)
    found: dict[str, str] = {}
    for answer in ready:
        try:
            problem = ray.get(answer)
        except RayError:
            continue
        if problem is not None:
            found[answers[answer]] = problem
    return found


def _problem_here(folder: StorageFolder, marker: str) -> str | None:
    try:
        if marker not in folder.files():
            return "does not see"
    except OSError as error:
        return f"cannot list ({cause(error)})"
    try:
        mine = f"{marker}-{uuid.uuid4().hex[:8]}"
        folder.write(mine, b"")
        folder.remove_file(mine)
    except OSError as error:
        return f"cannot write to ({cause(error)})"
    return None
