import itertools
import json

import numpy as np
import pytest

from nasray.evaluation import Evaluation
from nasray.spaces.mobile_networks import mobile_space
from nasray.strategies.coordinate_descent import CoordinateDescent, CoordinateDescentConfig, InfeasibleTargetError
from nasray.strategies.random_at_cost import RandomAtCost

SPACE = mobile_space("mobile-8", num_classes=10)
INITIAL = SPACE.plan(SPACE.largest()).macs


def macs(architecture):
    return SPACE.plan(architecture).macs


def score(architecture):
    """A smooth stand-in for accuracy: wide depthwise layers count most."""
    total = sum(value * (3 if "depthwise" in name else 1) for name, value in architecture.items)
    return Evaluation(metrics={"accuracy": total / 10_000, "loss": 1.0})


def descent(seed=0, cost=macs, **settings):
    defaults = {"target": 0.4 * INITIAL, "num_samples": 12, "num_layers": 4, "first_reduction": 0.08}
    config = CoordinateDescentConfig(**{**defaults, **settings})
    return CoordinateDescent(SPACE, cost, config, np.random.default_rng(seed))


def at_cost(cost=macs):
    return RandomAtCost(SPACE, cost, target=0.4 * INITIAL, num_samples=6, generator=np.random.default_rng(0))


def ask_iteration(strategy):
    trials = []
    while (trial := strategy.ask()) is not None:
        trials.append(trial)
    return trials


def run(strategy, order=lambda trials: trials):
    iterations = []
    while not strategy.is_finished:
        trials = ask_iteration(strategy)
        iterations.append((strategy.budget, trials))
        for trial in order(trials):
            strategy.tell(trial.trial_id, score(trial.architecture))
    return iterations


@pytest.mark.parametrize("mode", ["multi-layer", "single-layer"])
def test_samples_meet_their_budget_and_are_unique(mode):
    strategy = descent(mode=mode)
    for budget, trials in run(strategy):
        assert all(macs(trial.architecture) <= budget for trial in trials)
        assert len({trial.architecture.arch_id for trial in trials}) == len(trials)
    assert strategy.trajectory[-1].cost <= 0.4 * INITIAL
    assert strategy.trajectory[0].architecture == SPACE.largest()


@pytest.mark.parametrize(("mode", "most"), [("multi-layer", 4), ("single-layer", 1)])
def test_samples_shrink_at_most_as_many_layers_as_asked(mode, most):
    strategy = descent(mode=mode, first_reduction=0.03, target=0.9 * INITIAL)
    best = SPACE.largest()
    for trial in ask_iteration(strategy):
        changed = {n.rpartition(".")[0] for n, v in trial.architecture.items if v != best[n]}
        # A depthwise layer follows where its expansion got narrower than it.
        followers = {f"{n.split('.')[0]}.depthwise" for n in changed if n.endswith(("expand", "conv"))}
        assert len(changed - followers) <= most


def test_filters_and_kernels_are_both_shrunk():
    strategy = descent()
    names = {n for _, ts in run(strategy) for t in ts for n, v in t.architecture.items if v != SPACE.largest()[n]}
    assert any(name.endswith("kernel") for name in names)
    assert any(name.endswith("width") for name in names)


def test_reductions_decay_from_the_first():
    strategy = descent(decay=0.9, first_reduction=0.1)
    run(strategy)
    steps = strategy.trajectory
    for before, after in itertools.pairwise(steps):
        wanted = before.cost - 0.1 * 0.9 ** (after.iteration - 1) * INITIAL
        assert after.budget == pytest.approx(max(0.4 * INITIAL, wanted))


def test_same_seed_gives_same_samples_and_order_of_results_does_not_matter():
    forward = run(descent(seed=3))
    backward = run(descent(seed=3), order=lambda trials: trials[::-1])
    assert forward == backward
    assert forward != run(descent(seed=4))


@pytest.mark.parametrize("make", [descent, at_cost])
def test_of_equals_the_first_asked_is_kept_in_whatever_order_they_are_told(make):
    def best(order):
        strategy = make(cost=lambda architecture: 0.4 * INITIAL if macs(architecture) < INITIAL else INITIAL)
        trials = ask_iteration(strategy)
        for trial in order(trials):
            strategy.tell(trial.trial_id, Evaluation(metrics={"accuracy": 0.5}))
        found = strategy.best() if make is at_cost else strategy.trajectory[-1].architecture
        return found, trials[0].architecture

    for order in (list, lambda trials: trials[::-1]):
        found, first = best(order)
        assert found == first


@pytest.mark.parametrize("stop_after", [0, 1, 7, 12, 17])
def test_resuming_equals_never_having_stopped(stop_after):
    whole = descent(seed=1)
    run(whole)
    first = descent(seed=1)
    told = 0
    while told < stop_after:
        for trial in ask_iteration(first):
            first.tell(trial.trial_id, score(trial.architecture))
            told += 1
            if told == stop_after:
                break
    state = json.loads(json.dumps(first.state_dict()))
    second = descent(seed=99)
    second.load_state_dict(state)
    for trial_id in [key for key in second._pending.trials if key not in second._pending.results]:
        second.tell(trial_id, score(second._pending.trials[trial_id].architecture))
    run(second)
    assert second.trajectory == whole.trajectory


def test_failed_samples_do_not_win():
    strategy = descent(target=0.9 * INITIAL)
    trials = ask_iteration(strategy)
    for index, trial in enumerate(trials):
        result = score(trial.architecture) if index == 5 else Evaluation(status="failed", reason="out of memory")
        strategy.tell(trial.trial_id, result)
    assert strategy.trajectory[-1].architecture == trials[5].architecture


def test_equally_accurate_samples_are_told_apart_by_loss_and_then_by_cost():
    strategy = descent(target=0.5 * INITIAL)
    trials = ask_iteration(strategy)
    by_cost = sorted(trials, key=lambda trial: macs(trial.architecture))
    assert len({macs(trial.architecture) for trial in by_cost}) > 3
    dearest = by_cost[-1].trial_id
    for trial in trials:
        loss = 0.5 if trial.trial_id == dearest else 0.75
        strategy.tell(trial.trial_id, Evaluation(metrics={"accuracy": 0.5, "loss": loss}))
    assert strategy.trajectory[-1].architecture == by_cost[-1].architecture
    trials = ask_iteration(strategy)
    for trial in trials:
        strategy.tell(trial.trial_id, Evaluation(metrics={"accuracy": 0.5, "loss": 0.5}))
    assert strategy.trajectory[-1].cost == min(macs(trial.architecture) for trial in trials)


def test_iteration_without_any_success_says_why():
    strategy = descent()
    trials = ask_iteration(strategy)
    for trial in trials[:-1]:
        strategy.tell(trial.trial_id, Evaluation(status="failed", reason="out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        strategy.tell(trials[-1].trial_id, Evaluation(status="failed", reason="out of memory"))


def test_tell_refuses_unknown_repeated_and_empty_results():
    strategy = descent()
    trial = strategy.ask()
    with pytest.raises(ValueError, match="asked"):
        strategy.tell("nobody", score(trial.architecture))
    with pytest.raises(ValueError, match="must have the metric"):
        strategy.tell(trial.trial_id, Evaluation(metrics={"loss": 1.0}))
    strategy.tell(trial.trial_id, score(trial.architecture))
    with pytest.raises(ValueError, match="told before"):
        strategy.tell(trial.trial_id, score(trial.architecture))


def test_noisy_cost_still_meets_the_budget():
    noise = np.random.default_rng(0)
    strategy = descent(cost=lambda a: macs(a) * noise.uniform(0.9, 1.1), target=0.5 * INITIAL)
    for budget, trials in run(strategy):
        assert all(strategy.cost(trial.architecture) <= budget for trial in trials)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": 1.0}, "smallest cost that this space reaches"),
        ({"target": 2.0 * INITIAL}, "below the initial network's cost"),
        ({"target": 0.2 * INITIAL, "first_reduction": 0.01}, "Raise the first reduction"),
    ],
)
def test_infeasible_targets_are_refused_at_once(settings, message):
    with pytest.raises(InfeasibleTargetError, match=message):
        descent(**settings)


WRONG = [{"target": -1}, {"num_samples": 0}, {"first_reduction": 1.5}, {"decay": 0}, {"mode": "x"}]


@pytest.mark.parametrize("settings", WRONG)
def test_config_refuses_what_cannot_be(settings):
    with pytest.raises(ValueError, match="must be"):
        descent(**settings)
