"""What a cluster offers to a run."""

from __future__ import annotations

from dataclasses import dataclass

import ray


@dataclass(frozen=True, kw_only=True)
class Workers:
    """What the cluster offers to a run, and how a run uses it.

    Args:
        count: Evaluation actors or data-parallel workers.
        cpus: Processors of each.
        gpus: GPUs of each; fractions share one.
    """

    count: int
    cpus: float
    gpus: float

    @property
    def device(self) -> str:
        """Where a worker computes."""
        return "cuda" if self.gpus else "cpu"

    @classmethod
    def available(cls, count: int | None = None) -> Workers:
        """Return one worker per GPU, or per processor where there is no GPU; or as many as asked for.

        Raises:
            ValueError: If more are asked for than the cluster has processors.
        """
        if count is not None and count < 1:
            raise ValueError(f"`workers` must be at least 1, got {count}.")
        resources = ray.cluster_resources()
        cpus, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        number = count or gpus or cpus
        if number > cpus:
            raise ValueError(f"`workers` must be at most {cpus}, the processors that Ray has here, got {number}.")
        # A share that divides a GPU evenly, so that no evaluator needs parts of two.
        share = 1.0 if number <= gpus else 1 / -(-number // gpus) if gpus else 0.0
        return cls(count=number, cpus=1, gpus=share)

    def for_training(self, count: int, cpus: int | None) -> Workers:
        """Return the workers of a training on the same cluster.

        Args:
            count: Data-parallel workers.
            cpus: Processors of each; None takes what a node can spare for each GPU, or for each worker.

        Raises:
            ValueError: If there are fewer processors or GPUs than workers.
        """
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        total, gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
        limit, kind = (gpus, "GPUs") if self.gpus else (total, "processors")
        if not 1 <= count <= limit:
            raise ValueError(f"`training_workers` must be from 1 to {limit}, the {kind} of Ray here, got {count}.")
        fair = max(int(node.get("CPU", 0) // max(1, node.get("GPU", 0))) for node in nodes)
        share = max(1, min(fair, total // count))
        return Workers(count=count, cpus=min(cpus or share, share), gpus=1.0 if self.gpus else 0.0)
