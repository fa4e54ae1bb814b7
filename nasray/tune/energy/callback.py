"""Energy and carbon of every trial of any Tuner."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray
from ray import tune
from ray.exceptions import RayError

from nasray.carbon.intensity import carbon_intensity
from nasray.carbon.lease import LeaseEnergy
from nasray.evaluation import metric_number
from nasray.tune.energy.account import ClusterAccount
from nasray.tune.energy.leases import OpenLease, open_lease_here

_TIMEOUT_S = 10.0


class EnergyCallback(tune.Callback):
    """Adds `energy_j`, `carbon_g` and `energy_quality` to every result of a Tuner; works with any trainable.

    The figures count from the trial's start, over all its attempts, for its process and children. They stand in the
    ResultGrid, and in the logs of callbacks that come after this one; Ray shows them neither to schedulers nor to
    searchers while a trial runs, so that they cannot be a Tuner's metric. Unknown energy is None. `energy.json` and
    `emissions.csv` in the experiment's folder hold the account of every node: trials, overhead, other work and idle
    time add up to what the node used. A restored experiment goes on with it.

    A number that a trial itself reports as `energy_j` or `carbon_g`, such as a simulator's, stays; `energy_quality` of
    such an `energy_j` is "reported", and what the trial was charged stands in the account alone. `carbon_g` is always
    of the `energy_j` beside it, by the account's intensity and PUE, unless the trial reports its own.

    Actors and data-parallel workers that a trial starts are processes of their own; what they use counts as other work
    unless they call `metered(owner=...)`, and then stands in the account alone.

    Args:
        place: Country, region or g/kWh of the electricity, as `carbon_intensity` reads it.
        pue: Power usage effectiveness of the place, at least 1.
        stage: What the trials do, such as "final training".
        account: Account of an experiment with several Tuners, started and stopped by the caller; by default one of this
            Tuner's own.

    Raises:
        ValueError: If the place is unknown or `pue` is less than 1.
    """

    def __init__(
        self,
        *,
        place: str | float = "world",
        pue: float = 1.0,
        stage: str = "trial",
        account: ClusterAccount | None = None,
    ) -> None:
        self._settings = (place, pue, stage)
        self._account, self._owns = account or ClusterAccount(carbon_intensity(place), pue=pue), account is None
        self._leases: dict[str, _TrialLease] = {}
        self._earlier: dict[str, LeaseEnergy] = {}

    # Ray pickles callbacks to restore an experiment: the settings go on, a new account starts.
    def __reduce__(self) -> tuple[Any, ...]:
        place, pue, stage = self._settings
        return _restored, (place, pue, stage)

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        """Start the meters."""
        if self._owns:
            self._account.start()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Charge the trial's process from before its first step on."""
        if self._owns and self._account.folder is None:
            self._account.go_on_in(_folder(trial))
            self._earlier = self._account.ledger.owners()
        self._account.watch_new_nodes()
        lease = self._leases.setdefault(trial.trial_id, _TrialLease(self._earlier.pop(trial.trial_id, None)))
        lease.end()
        opener = partial(_open_in_actor, trial.trial_id, self._settings[2], self._account.session)
        lease.begin(trial.temporary_state.ray_actor, opener)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Add the columns."""
        lease = self._leases.get(trial.trial_id)
        energy = lease.energy() if lease else None
        if _is_number(result.get("energy_j")):
            result["energy_quality"] = "reported"
        else:
            result["energy_j"] = None if energy is None else energy.energy_j
            result["energy_quality"] = "unavailable" if energy is None else energy.quality
        if not _is_number(result.get("carbon_g")):
            energy_j = result["energy_j"]
            result["carbon_g"] = None if energy_j is None else self._account.ledger.carbon_g(metric_number(energy_j))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Charge the trial no longer."""
        if lease := self._leases.pop(trial.trial_id, None):
            lease.stop()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Charge the trial no longer."""
        self.on_trial_complete(iteration, trials, trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Fetch what the meters have counted."""
        with _no_failure():
            self._account.refresh()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Write the account of an experiment of its own into its folder."""
        for lease in self._leases.values():
            lease.stop()
        if self._owns:
            with _no_failure():
                self._account.stop()


def _restored(place: str | float, pue: float, stage: str) -> EnergyCallback:
    return EnergyCallback(place=place, pue=pue, stage=stage)


def _is_number(value: object) -> bool:
    return math.isfinite(metric_number(value))


class _TrialLease:
    """The leases of one trial, an attempt after the other; all that goes wrong makes its energy unknown."""

    def __init__(self, earlier: LeaseEnergy | None = None) -> None:
        self._earlier = earlier
        self._opening: Any = None
        self._is_known = True

    def begin(self, actor: Any, opener: Callable[[Any], OpenLease | None]) -> None:
        """Have the trial's own process open a lease, in line before its first step."""
        self._opening = actor.__ray_call__.remote(opener)

    def energy(self) -> LeaseEnergy | None:
        """Return the energy of all attempts so far."""
        lease = self._lease()
        return self._with_earlier(lease.energy() if lease else None)

    def stop(self) -> None:
        """Have the lease of this attempt closed, without waiting for it."""
        if self._opening is not None and (lease := self._lease()):
            lease.close_soon()

    def end(self) -> None:
        """Close the lease of this attempt and keep its energy."""
        if self._opening is not None:
            lease = self._lease()
            self._earlier = self._with_earlier(lease.close() if lease else None)
            self._is_known, self._opening = self._earlier is not None, None

    def _lease(self) -> OpenLease | None:
        if self._opening is None:
            return None
        try:
            lease: OpenLease | None = ray.get(self._opening, timeout=_TIMEOUT_S)
        except (RayError, TimeoutError):  # the trial died before it began
            return None
        return lease

    def _with_earlier(self, energy: LeaseEnergy | None) -> LeaseEnergy | None:
        if energy is None or not self._is_known:
            return None
        return energy if self._earlier is None else self._earlier + energy


def _open_in_actor(trial_id: str, stage: str, account: str, trainable: Any) -> OpenLease | None:
    return open_lease_here(trial_id, stage, is_new=True, account=account)


@contextmanager
def _no_failure() -> Iterator[None]:
    """Say that figures could not be kept; an experiment must not be lost over that."""
    try:
        yield
    except (OSError, ValueError) as error:
        warnings.warn(f"The energy account could not be written: {error}", stacklevel=3)


def _folder(trial: Any) -> Path:
    """Return the experiment's folder: where its results are, if that is a folder of this machine."""
    storage = trial.storage
    is_local = isinstance(storage.storage_filesystem, pyarrow.fs.LocalFileSystem)
    return Path(storage.experiment_fs_path if is_local else storage.experiment_driver_staging_path)
