"""Energy and hardware cost beside a Tuner of a user's own."""

import itertools
import json
import os
import signal
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import psutil
import pytest
import ray
import torch
from ray import tune
from ray.tune.schedulers import FIFOScheduler

from nasray.carbon.budget import Budget
from nasray.carbon.intensity import CarbonIntensity
from nasray.carbon.lease import DomainEnergy, LeaseEnergy
from nasray.carbon.ledger import EnergyLedger
from nasray.tune.driver_callback import TrialLogs
from nasray.tune.energy import EnergyCallback, HardwareCostCallback, metered
from nasray.tune.energy.account import BudgetStopper, ClusterAccount
from nasray.tune.energy.hardware_callback import _key

pytestmark = [pytest.mark.ray, pytest.mark.slow]
FRANCE = CarbonIntensity(g_per_kwh=56.0, source="test")


def work(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def trainable(config):
    for _ in range(2):
        work(config["seconds"] / 2)
        tune.report({"value": 1.0})


def fit(function, param_space, storage, *, callbacks, cpus=0.5, stop=None, failures=0):
    with closing(TrialLogs()) as logs:  # Ray leaves the logs open of trials that were stopped
        return fit_with(function, param_space, storage, [*callbacks, logs], cpus, stop, failures)


def fit_with(function, param_space, storage, callbacks, cpus, stop, failures):
    return tune.Tuner(
        tune.with_resources(function, {"cpu": cpus}),
        param_space=param_space,
        run_config=tune.RunConfig(
            callbacks=callbacks,
            storage_path=str(storage),
            stop=stop,
            failure_config=tune.FailureConfig(max_failures=failures),
            verbose=0,
        ),
    ).fit()


def rows_of(result):
    return [json.loads(line) for line in (Path(result.path) / "result.json").read_text().splitlines()]


@pytest.fixture(scope="module")
def four_trials(cluster, tmp_path_factory):
    """Four trials at once on two processors, one of them longer than the others."""
    space = {"seconds": tune.grid_search([1.0, 1.0, 1.0, 3.0])}
    return fit(trainable, space, tmp_path_factory.mktemp("ray"), callbacks=[EnergyCallback(place="56")])


def test_every_result_has_energy_carbon_and_quality(four_trials) -> None:
    for result in four_trials:
        metrics = result.metrics
        assert metrics["energy_j"] > 0
        assert metrics["carbon_g"] == pytest.approx(metrics["energy_j"] / 3.6e6 * 56)
        assert metrics["energy_quality"] in ("estimated", "attributed")
        rows = rows_of(result)
        assert [row["energy_j"] for row in rows] == sorted(row["energy_j"] for row in rows)


def test_trials_other_and_idle_add_up_to_the_node(four_trials) -> None:
    ledger = EnergyLedger.of_folder(Path(four_trials.experiment_path))
    ledger.check()
    owners = ledger.owners()
    assert owners.keys() == {result.metrics["trial_id"] for result in four_trials} | {"overhead"}
    for domains in ledger.nodes().values():
        for name, domain in domains.items():
            if domain["node_j"] is not None:
                charged = sum(energy.domains[name].energy_j for energy in owners.values() if name in energy.domains)
                assert charged + domain["other_j"] + domain["idle_j"] == pytest.approx(domain["node_j"], rel=1e-9)


def test_the_ledger_keeps_at_least_what_the_last_result_said(four_trials) -> None:
    owners = EnergyLedger.of_folder(Path(four_trials.experiment_path)).owners()
    for result in four_trials:
        assert owners[result.metrics["trial_id"]].energy_j >= result.metrics["energy_j"]


def test_a_killed_attempt_keeps_its_energy_and_the_next_one_adds(cluster, tmp_path) -> None:
    def dies_once(config):
        work(1.0)
        note = Path(config["note"])
        if not note.exists():
            note.touch()
            tune.report({"value": 0.0})
            os.kill(os.getpid(), signal.SIGKILL)
        tune.report({"value": 1.0})

    note = str(tmp_path / "note")
    result = fit(dies_once, {"note": note}, tmp_path, callbacks=[EnergyCallback(place="56")], failures=1)[0]
    rows = rows_of(result)
    assert [row["value"] for row in rows] == [0.0, 1.0]
    owner = EnergyLedger.of_folder(Path(result.path).parent).owners()[result.metrics["trial_id"]]
    assert owner.num_attempts == 2
    assert owner.energy_j >= result.metrics["energy_j"] > rows[0]["energy_j"] * 1.2


def test_a_killed_process_is_closed_within_two_ticks(cluster) -> None:
    with ClusterAccount(FRANCE, is_cross_checked=False) as account:

        @ray.remote(num_cpus=0)
        class Worker:
            def start(self):
                from nasray.tune.energy.leases import open_lease_here

                open_lease_here("victim", "test")
                work(1.5)
                return os.getpid()

        worker = Worker.remote()
        pid = ray.get(worker.start.remote())
        psutil.Process(pid).kill()
        time.sleep(2.5)
    energy = account.ledger.owners()["victim"]
    assert energy.closed_by == "process gone"
    assert energy.energy_j > 0
    assert 1.5 < energy.duration_s < 4.5


def test_metered_tells_what_a_block_costs(cluster, tmp_path) -> None:
    def windows(config):
        with metered() as window:
            work(0.5)
        with metered() as longer:
            work(1.5)
        tune.report({"short_j": window.energy_j, "long_j": longer.energy_j, "seconds": window.seconds})

    metrics = fit(windows, {}, tmp_path, callbacks=[EnergyCallback(place="56")])[0].metrics
    assert metrics["seconds"] == pytest.approx(0.5, abs=0.3)
    assert 0 < metrics["short_j"] < metrics["long_j"]
    assert metrics["short_j"] + metrics["long_j"] <= metrics["energy_j"] * (1 + 1e-9)


def test_metered_without_a_meter_is_unavailable_never_zero(cluster, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("nasray.tune.energy.leases.meter_of_this_host", lambda: None)
    monkeypatch.setattr("nasray.tune.energy.leases._current", None)
    monkeypatch.setattr("nasray.tune.energy.leases._meter", None)
    with metered(owner="test") as window:
        work(0.1)
    assert window.energy_j is None
    assert window.quality == "unavailable"
    assert "EnergyCallback" in window.source


class PauseOnce(FIFOScheduler):
    """Pauses the trial at every second result; it goes on on the same actor."""

    def on_trial_result(self, tune_controller, trial, result):
        return self.PAUSE if result["training_iteration"] % 2 == 0 and not result["done"] else self.CONTINUE

    def choose_trial_to_run(self, tune_controller):
        trials = tune_controller.get_trials()
        return next((trial for trial in trials if trial.status in ("PENDING", "PAUSED")), None)


class Steps(tune.Trainable):
    def step(self):
        work(0.4)
        return {"pid": os.getpid(), "done": self.iteration >= 4}

    def reset_config(self, new_config):
        return True

    def save_checkpoint(self, folder):
        return {}

    def load_checkpoint(self, checkpoint):
        pass


class Seen(tune.Callback):
    """Keeps results as callbacks after the first see them, in this process: files may be copied late."""

    rows: ClassVar[list[dict]] = []

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.rows.append(dict(result))


def test_a_trial_that_pauses_and_goes_on_is_charged_once(cluster, tmp_path) -> None:
    Seen.rows.clear()
    tuner = tune.Tuner(
        tune.with_resources(Steps, {"cpu": 1}),
        tune_config=tune.TuneConfig(scheduler=PauseOnce(), reuse_actors=True),
        run_config=tune.RunConfig(
            callbacks=[EnergyCallback(place="56"), Seen()], storage_path=str(tmp_path), verbose=0
        ),
    )
    result = tuner.fit()[0]
    energies = [row["energy_j"] for row in Seen.rows]
    assert [row["training_iteration"] for row in Seen.rows] == [1, 2, 3, 4, 5]
    assert all(later > before for before, later in itertools.pairwise(energies))
    owner = EnergyLedger.of_folder(Path(result.path).parent).owners()[result.metrics["trial_id"]]
    assert owner.num_attempts >= 2
    assert energies[-1] <= owner.energy_j * (1 + 1e-9)
    assert owner.energy_j < 1.5 * energies[-1]


def test_an_account_does_not_take_over_what_another_one_paid(cluster, tmp_path) -> None:
    first = EnergyCallback(place="56")  # kept, so that its meter lives on
    fit(trainable, {"seconds": 2.0}, tmp_path / "a", callbacks=[first])
    result = fit(trainable, {"seconds": 1.0}, tmp_path / "b", callbacks=[EnergyCallback(place="56")])[0]
    ledger = EnergyLedger.of_folder(Path(result.path).parent)
    ledger.check()
    assert ledger.owners().keys() == {"overhead", result.metrics["trial_id"]}


def test_a_restored_experiment_goes_on_with_its_account(cluster, tmp_path) -> None:
    result = fit(trainable, {"seconds": 1.0}, tmp_path, callbacks=[EnergyCallback(place="56")])[0]
    folder = Path(result.path).parent
    before = EnergyLedger.of_folder(folder).owners()
    tuner = tune.Tuner.restore(
        str(folder), trainable=tune.with_resources(trainable, {"cpu": 0.5}), restart_errored=True
    )
    tuner.fit()
    after = EnergyLedger.of_folder(folder).owners()
    assert after[result.metrics["trial_id"]].energy_j == pytest.approx(before[result.metrics["trial_id"]].energy_j)


def test_configurations_with_any_keys_are_told_apart() -> None:
    keys = {_key(config) for config in ({"x": {(0, 1): 2}}, {"x": {(0, 1): 3}}, {"x": {1: 2, "a": 3}})}
    assert len(keys) == 3
    assert _key({"x": {(0, 1): 2}}) in keys


def test_hardware_costs_stand_in_every_result(cluster, tmp_path) -> None:
    def build(config):
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, config["width"], 3, bias=False),
            torch.nn.Flatten(),
            torch.nn.Linear(config["width"] * 36, 2),
        )

    results = fit(
        lambda config: tune.report({"value": 1.0}),
        {"width": tune.grid_search([4, 8])},
        tmp_path,
        callbacks=[HardwareCostCallback(build, (1, 3, 8, 8), latency_budget_s=0.02)],
    )
    for result in results:
        metrics, width = result.metrics, result.config["width"]
        assert metrics["macs"] == width * 27 * 36 + width * 36 * 2
        assert metrics["parameters"] == width * 27 + width * 36 * 2 + 2
        assert metrics["memory_bytes"] == 4 * (metrics["parameters"] + 3 * 64 + width * 36)
        assert metrics["latency_ms"] > 0
        assert "hardware_cost_error" not in metrics


def test_a_network_that_cannot_be_built_costs_nothing_but_its_columns(cluster, tmp_path) -> None:
    def build(config):
        raise ValueError("no such network")

    result = fit(
        lambda config: tune.report({"value": 1.0}),
        {},
        tmp_path,
        callbacks=[HardwareCostCallback(build, (1, 3, 8, 8))],
    )[0]
    assert result.error is None
    assert result.metrics["value"] == 1.0
    assert result.metrics["macs"] is None and result.metrics["latency_ms"] is None
    assert result.metrics["hardware_cost_error"] == "ValueError: no such network"


def test_a_budget_ends_an_experiment(cluster, tmp_path) -> None:
    with ClusterAccount(FRANCE, budget=Budget(hours=30 / 3600), folder=tmp_path) as account:
        callback = EnergyCallback(place="56", account=account)
        results = fit(
            trainable,
            {"seconds": tune.grid_search([1.0] * 60)},
            tmp_path,
            callbacks=[callback],
            stop=BudgetStopper(account),
        )
        finished = [result for result in results if (result.metrics or {}).get("training_iteration") == 2]
        assert 1 <= len(finished) < 50
        assert account.is_spent()
    assert EnergyLedger.of_folder(tmp_path).hours >= 30 / 3600


def test_an_account_goes_on_where_it_was(cluster, tmp_path) -> None:
    with ClusterAccount(FRANCE, folder=tmp_path, is_cross_checked=False) as account:
        work(1.0)
    before, hours = account.spending(), account.ledger.hours
    with ClusterAccount(FRANCE, folder=tmp_path, is_cross_checked=False) as account:
        assert account.spending().energy_j >= before.energy_j
        assert account.spending().hours >= hours


@pytest.mark.parametrize(
    ("reported", "energy_j", "carbon_g"),
    [
        ({"energy_j": 7.2e6}, 7.2e6, 2 * 56.0 * 1.5),
        ({"energy_j": 7.2e6, "carbon_g": 3.0}, 7.2e6, 3.0),
        ({"energy_j": float("nan")}, None, None),
        ({"carbon_g": 3.0}, None, 3.0),
    ],
)
def test_carbon_is_of_the_energy_beside_it(reported, energy_j, carbon_g) -> None:
    callback = EnergyCallback(place="56", pue=1.5)
    for charged_j in (None, 3.6e6):
        if charged_j is not None:
            callback._leases["t"] = Charged(charged_j)
        result = dict(reported)
        callback.on_trial_result(1, [], Charged.trial, result)
        is_own = energy_j is not None
        expected_j = energy_j if is_own else charged_j
        expected_g = (None if expected_j is None else 56.0 * 1.5) if carbon_g is None else carbon_g
        assert (result["energy_j"], result["carbon_g"]) == (expected_j, pytest.approx(expected_g))
        assert result["energy_quality"] == ("reported" if is_own else "estimated" if charged_j else "unavailable")


class Charged:
    """A trial's lease that was charged something."""

    trial = SimpleNamespace(trial_id="t")

    def __init__(self, energy_j):
        domains = {"cpu": DomainEnergy(energy_j=energy_j, quality="estimated", source="test")}
        self.charged = LeaseEnergy(owner="t", stage="trial", domains=domains, duration_s=1.0)

    def energy(self):
        return self.charged


def test_unknown_places_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`place` must be .* got 'Atlantis'"):
        EnergyCallback(place="Atlantis")
