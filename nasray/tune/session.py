"""Starting and leaving Ray, and one way to run a set of trials."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

# Read by Ray at import. One JSON log per trial is enough, an interrupt must reach us, and no usage data is sent.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
# Without a GPU in the trial, Ray hides all GPUs by default; it will stop doing so, and warns.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler

from nasray.tune.cli_errors import TrialError
from nasray.tune.driver_callback import TrialLogs
from nasray.tune.run_storage import RunStorage
from nasray.tune.shared_folder import check_shared
from nasray.tune.storage_folder import StorageFolder


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Which Ray to use, and where its nodes keep what a run needs to go on.

    Args:
        address: None starts Ray on this machine; `auto` or an address joins a running cluster.
        num_cpus: Processors to offer when starting Ray here; None for all.
        storage: The run's folder on a storage that all nodes reach; None for its run directory, which they share.
    """

    address: str | None = None
    num_cpus: int | None = None
    storage: RunStorage | None = None


@contextmanager
def _only_here() -> Iterator[None]:
    """Let a Ray that is started here listen on this machine's loopback alone, as it does by itself on macOS.

    On Linux its servers would answer on every network that the machine is on, and `ray.init` turns a loopback address
    that it is given into the machine's own.
    """
    import ray._private.services as services

    with ExitStack() as stack:
        for owner in (ray.util, services):
            stack.enter_context(mock.patch.object(owner, "get_node_ip_address", return_value="127.0.0.1"))
        yield


@contextmanager
def ray_session(config: ClusterConfig, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Start or join Ray, and leave it at the end; a Ray that is already up is used and left alone.

    Args:
        config: Which Ray.
        say: Tells that it is being started or joined, which takes seconds.

    Raises:
        ConnectionError: If no cluster answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    if say is not None:
        say("Starting Ray." if config.address is None else f"Joining Ray ({config.address}).")
    # Workers import nasray from where this process has it, also when it is not installed.
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    options: dict[str, Any] = {"runtime_env": {"env_vars": {"PYTHONPATH": path}}} if config.address is None else {}
    try:
        with _only_here() if config.address is None else nullcontext():
            ray.init(
                address=config.address or "local",
                num_cpus=config.num_cpus if config.address is None else None,
                include_dashboard=None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
                **options,
            )
    except ConnectionError as error:
        raise ConnectionError(
            f"`address` must name a running Ray cluster, got {config.address!r}. Start one with `ray start --head`."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def run_trials(
    trainable: Any,
    names: Sequence[str],
    *,
    stage: str,
    storage: StorageFolder,
    resources: tune.PlacementGroupFactory,
    callbacks: Sequence[tune.Callback],
    resume_from: Mapping[str, str],
    max_failures: int = 3,
    stop: tune.Stopper | None = None,
    scheduler: TrialScheduler | None = None,
) -> dict[str, tune.Result]:
    """Run one trial for each name through a Tuner and return the results by name.

    Each trial gets `{"name": ..., "resume_from": ...}` as configuration.

    Args:
        trainable: Class trainable, checkpointed every step; or a function that keeps its own checkpoints.
        names: Names of the trials.
        stage: Name of this set of trials.
        storage: Folder for Ray's state, which all nodes reach.
        resources: Of one trial.
        callbacks: Told of results as they come.
        resume_from: Path of a checkpoint by name, from an earlier run, on the file system of the storage.
        max_failures: How often a trial is restarted after a crash.
        stop: Ends trials early; their last results count.
        scheduler: Likewise, by comparing them.

    Raises:
        TrialError: If a trial failed.
        ValueError: If a node of the cluster does not reach the storage.
    """
    check_shared(storage)
    configs = [{"name": name, "resume_from": resume_from.get(name)} for name in names]
    every_step = tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2, checkpoint_at_end=True)
    logs = TrialLogs()  # type: ignore[no-untyped-call]
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        param_space={"trial": tune.grid_search(configs)},
        tune_config=tune.TuneConfig(
            metric=None,
            reuse_actors=False,
            scheduler=scheduler,
            trial_name_creator=lambda trial: trial.config["trial"]["name"],
            trial_dirname_creator=lambda trial: trial.config["trial"]["name"],
        ),
        run_config=tune.RunConfig(
            name=stage,
            storage_path=storage.path,
            storage_filesystem=storage.filesystem,
            callbacks=[*callbacks, logs],
            checkpoint_config=every_step if isinstance(trainable, type) else None,
            failure_config=tune.FailureConfig(max_failures=max_failures),
            stop=stop,
            verbose=0,
        ),
    )
    with closing(logs):
        results = tuner.fit()
    for error in results.errors:
        raise TrialError(f"A trial of stage {stage!r} failed: {_last_line(error)}")
    by_name = {
        result.config["trial"]["name"]: result
        for result in map(results.__getitem__, range(len(results)))
        if result.config
    }
    if missing := [name for name in names if name not in by_name]:
        raise TrialError(f"Trials of stage {stage!r} ended without a result: {missing}. Start again with --resume.")
    return by_name


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
