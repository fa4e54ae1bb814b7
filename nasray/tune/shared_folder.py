"""Whether all nodes of a cluster see the same folder, asked before hours of work rest on it."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_TIMEOUT_S = 60.0


def check_shared(folder: Path) -> None:
    """Check that every node of the Ray that is up reads and writes a folder of this process, which is made.

    A node that is lost meanwhile, or does not answer within a minute, is no reason to stop.

    Args:
        folder: For checkpoints and results.

    Raises:
        ValueError: If a node does not see it, or may not write to it.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    if not others:
        return
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / f".seen-by-all-{uuid.uuid4().hex[:8]}"
    marker.touch()
    try:
        for node, problem in _problems(marker, others).items():
            raise ValueError(
                f"`run_dir` must be on storage that all nodes share, got {folder}, which node {node} {problem}. "
                "Name a folder that is mounted at the same path everywhere."
            )
    finally:
        marker.unlink(missing_ok=True)


def _problems(marker: Path, nodes: list[dict[str, object]]) -> dict[str, str]:
    """Return what is wrong with the folder, by the name of the node."""
    ask = ray.remote(_problem_here)
    answers = {
        ask.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(str(node["NodeID"]), soft=False)
        ).remote(marker): str(node["NodeManagerHostname"])
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


def _problem_here(marker: Path) -> str | None:
    if not marker.exists():
        return "does not see"
    return None if os.access(marker.parent, os.W_OK) else "may not write to"
