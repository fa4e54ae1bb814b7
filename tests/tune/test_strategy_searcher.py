import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from ray import tune
from ray.tune.search import ConcurrencyLimiter, Searcher

from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.spaces.cell import CellSpace
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.strategies.strategy import Strategy, Trial
from nasray.tune.candidate_result import candidate_architecture, read_evaluation, write_evaluation
from nasray.tune.reconcile import ReconcileAfterRestore
from nasray.tune.strategy_searcher import StrategySearcher

OBJECTIVES = Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="latency_ms")])


def evolution(num_evaluations=40, seed=0):
    generator = np.random.default_rng(seed)
    return AsynchronousEvolution(
        CellSpace(), OBJECTIVES, num_evaluations=num_evaluations, generator=generator, population_size=8
    )


def row(config, **changes):
    """A trial's last result as Ray gives it: flat, with the configuration."""
    digits = int(candidate_architecture(config).arch_id, 16)
    metrics = {"accuracy": digits % 997 / 997, "latency_ms": float(digits % 89)}
    return {**metrics, "done": True, **{f"config/{key}": value for key, value in config.items()}, **changes}


def results(strategy):
    return dict(strategy.state_dict()["results"])


class Repeats(Strategy):
    """Asks for the same architecture again and again."""

    is_finished = False

    def __init__(self):
        self.asked, self.told = 0, {}

    def ask(self):
        if self.asked == 4:
            return None
        self.asked += 1
        return Trial(trial_id=str(self.asked), architecture=CellSpace().smallest())

    def tell(self, trial_id, evaluation):
        self.told[trial_id] = evaluation
        self.is_finished = len(self.told) == 4

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_suggestion_names_candidate_and_architecture():
    strategy = evolution()
    config = StrategySearcher(strategy).suggest("a")
    assert config["candidate_id"] == "0"
    assert candidate_architecture(config) == strategy.architecture("0")


def test_results_reach_their_candidates_in_any_order():
    strategy = evolution()
    searcher = StrategySearcher(strategy)
    configs = {name: searcher.suggest(name) for name in "abcdef"}
    for name in "fadbec":
        searcher.on_trial_complete(name, result=row(configs[name]))
    for config in configs.values():
        told = strategy.result(candidate_architecture(config))
        assert told.metrics == {key: row(config)[key] for key in ("accuracy", "latency_ms")}


def test_limit_is_kept_and_comes_from_ray_too():
    searcher = StrategySearcher(evolution(), max_concurrent=3)
    limited = ConcurrencyLimiter(searcher, max_concurrent=2)
    first = limited.suggest("a")
    assert limited.suggest("b")
    assert limited.suggest("c") is None
    limited.on_trial_complete("a", result=row(first))
    assert limited.suggest("c")
    assert searcher.num_running == 2


def test_search_is_finished_only_when_nothing_is_out():
    searcher = StrategySearcher(evolution(num_evaluations=2))
    first, second = searcher.suggest("a"), searcher.suggest("b")
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a", result=row(first))
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("b", error=True)
    assert searcher.suggest("c") == second  # once more
    searcher.on_trial_complete("c", result=row(second))
    assert searcher.suggest("d") == Searcher.FINISHED


def test_second_notice_of_a_trial_changes_nothing():
    strategy = evolution()
    searcher = StrategySearcher(strategy)
    config = searcher.suggest("a")
    searcher.on_trial_complete("a", result=row(config))
    before = results(strategy)
    searcher.on_trial_complete("a", result=row(config, accuracy=0.0))
    searcher.on_trial_complete("a", error=True)
    searcher.on_trial_complete("a")
    assert results(strategy) == before
    assert searcher.suggest("b")["candidate_id"] == "1"


def test_crashed_candidate_is_tried_again_and_then_told_as_failed():
    strategy = evolution()
    searcher = StrategySearcher(strategy, max_retries=2)
    config = searcher.suggest("a")
    for name, following in (("a", "b"), ("b", "c")):
        searcher.on_trial_complete(name, error=True)
        assert searcher.suggest(following) == config
    searcher.on_trial_complete("c", error=True)
    assert results(strategy)["0"]["status"] == "failed"
    assert "crashed 3 time(s); see error.txt of trial c" in results(strategy)["0"]["reason"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"accuracy": float("nan")}, "accuracy is nan"),
        ({"latency_ms": float("inf")}, "latency_ms is inf"),
        ({"accuracy": "high"}, "accuracy is 'high', not a number"),
        ({"accuracy": None}, "accuracy is None, not a number"),
        ({"status": "failed", "reason": "out of memory"}, "out of memory"),
        ({"status": "failed"}, "the trial gave no reason"),
    ],
)
def test_bad_result_is_told_as_failed_with_a_reason(changes, reason):
    strategy = evolution()
    searcher = StrategySearcher(strategy)
    searcher.on_trial_complete("a", result=row(searcher.suggest("a"), **changes))
    told = results(strategy)["0"]
    assert (told["status"], told["reason"]) == ("failed", reason)
    json.dumps(searcher.get_state(), allow_nan=False)
    assert searcher.suggest("b")["candidate_id"] == "1"


def test_missing_metrics_and_no_result_are_told_as_failed():
    strategy = evolution()
    searcher = StrategySearcher(strategy)
    searcher.suggest("a"), searcher.suggest("b")
    searcher.on_trial_complete("a", result={"done": True, "latency_ms": 1.0})
    searcher.on_trial_complete("b")
    assert [results(strategy)[key]["reason"] for key in "01"] == [
        "the result has no accuracy",
        "the trial was stopped before it reported anything",
    ]


def test_infeasible_evaluation_survives_the_way_through_a_result():
    evaluation = Evaluation(
        status="infeasible", metrics={"accuracy": 0.5, "extra_j": 3.0}, reason="too slow", seconds=2.0
    )
    written = write_evaluation(evaluation, ("accuracy", "latency_ms"))
    assert np.isnan(written["latency_ms"])
    flat = tune.utils.flatten_dict(written)
    assert read_evaluation(flat, ("accuracy", "latency_ms")) == evaluation


def test_result_of_a_trial_that_is_not_on_the_record_is_found_by_its_configuration():
    strategy = evolution()
    searcher = StrategySearcher(strategy)
    config = searcher.suggest("a")
    searcher.on_trial_complete("other", result=row(config))
    assert set(results(strategy)) == {"0"}
    searcher.on_trial_complete("a", result=row(config))  # the same candidate comes back a second time
    searcher.on_trial_complete("nobody", result={"done": True})
    assert set(results(strategy)) == {"0"}


def test_result_from_the_future_is_kept_until_the_strategy_asks():
    ahead = StrategySearcher(evolution())
    configs = [ahead.suggest(str(number)) for number in range(3)]
    strategy = evolution()
    searcher = StrategySearcher(strategy)  # as restored from before the first suggestion
    searcher.on_trial_complete("1", result=row(configs[1]))
    assert not results(strategy)
    assert searcher.suggest("a") == configs[0]
    assert searcher.suggest("b") == configs[2]
    assert set(results(strategy)) == {"1"}


def test_known_architecture_is_not_evaluated_again():
    strategy, recorded = Repeats(), []
    searcher = StrategySearcher(
        strategy, metrics=["accuracy"], record=lambda trial, evaluation: recorded.append(trial.trial_id)
    )
    config = searcher.suggest("a")
    searcher.on_trial_complete("a", result=row(config))
    assert searcher.suggest("b") == Searcher.FINISHED
    assert set(strategy.told) == {"1", "2", "3", "4"}
    assert recorded == ["1"]


def test_restored_search_equals_one_without_a_break(tmp_path):
    def run(breaks):
        searcher, order = StrategySearcher(evolution(), max_concurrent=3), np.random.default_rng(5)
        out, asked = {}, []
        for number in range(200):
            if number in breaks:
                searcher.save(str(tmp_path / "state.json"))
                searcher = StrategySearcher(evolution(seed=9), max_concurrent=3)
                searcher.restore(str(tmp_path / "state.json"))
            config = searcher.suggest(str(number))
            if config == Searcher.FINISHED:
                return asked, searcher.strategy.state_dict()
            if config is None:
                name = sorted(out)[order.integers(len(out))]
                done = out.pop(name)
                if order.random() < 0.2:
                    searcher.on_trial_complete(name, error=True)
                else:
                    searcher.on_trial_complete(name, result=row(done))
            else:
                out[str(number)] = config
                asked.append(config)
        raise AssertionError("the search did not end")

    assert run(set()) == run({7, 31, 32, 90})
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("seed", range(5))
def test_every_candidate_is_told_exactly_once_whatever_happens(seed, tmp_path):
    """Results, crashes, doubled and lost notices, and restores of older states in random order."""
    chance, path = np.random.default_rng(seed), str(tmp_path / "state.json")
    searcher, out, number = StrategySearcher(evolution(), max_concurrent=4), {}, 0
    searcher.save(path)
    while True:
        number += 1
        config = searcher.suggest(str(number))
        if config == Searcher.FINISHED:
            break
        if config is not None:
            out[str(number)] = config
        if chance.random() < 0.05:
            searcher.save(path)
        if chance.random() < 0.05:
            searcher = StrategySearcher(evolution(seed=seed), max_concurrent=4)
            searcher.restore(path)
            trials = [SimpleNamespace(trial_id=k, config=c, is_finished=lambda: False) for k, c in out.items()]
            searcher.reconcile(trials)
        if out and (config is None or chance.random() < 0.5):
            name = sorted(out)[chance.integers(len(out))]
            searcher.on_trial_complete(
                name, **({"error": True} if chance.random() < 0.3 else {"result": row(out[name])})
            )
            if chance.random() < 0.7:
                del out[name]
    assert set(results(searcher.strategy)) == {str(key) for key in range(40)}


def test_reconcile_suggests_again_what_no_trial_carries():
    strategy = evolution()
    searcher = StrategySearcher(strategy)
    configs = {name: searcher.suggest(name) for name in "abcd"}
    searcher.on_trial_complete("d", error=True)
    trials = [
        SimpleNamespace(trial_id="a", config=configs["a"], is_finished=lambda: False),
        SimpleNamespace(
            trial_id="b",
            config=configs["b"],
            is_finished=lambda: True,
            status="TERMINATED",
            last_result={**row(configs["b"]), "config": configs["b"]},
        ),
    ]
    callback = pickle.loads(pickle.dumps(ReconcileAfterRestore(searcher)))
    searcher, strategy = callback._target, callback._target.strategy
    callback.on_step_begin(iteration=0, trials=trials)
    callback.on_step_begin(iteration=1, trials=[])
    assert set(results(strategy)) == {"1"}
    assert [searcher.suggest(name)["candidate_id"] for name in "xyz"] == ["2", "3", "4"]
    assert searcher.num_running == 4


def test_known_evaluation_is_told_to_a_waiting_candidate():
    strategy = evolution()
    searcher = StrategySearcher(strategy)
    config = searcher.suggest("a")
    searcher.reconcile([])
    evaluation = Evaluation(metrics={"accuracy": 0.5, "latency_ms": 1.0})
    searcher.add_known(candidate_architecture(config), evaluation)
    assert strategy.result(candidate_architecture(config)) == evaluation
    assert searcher.suggest("b")["candidate_id"] == "1"


def test_failure_to_record_ends_the_search_at_the_next_suggestion():
    def record(trial, evaluation):
        raise OSError("disk full")

    searcher = StrategySearcher(evolution(), record=record)
    searcher.on_trial_complete("a", result=row(searcher.suggest("a")))
    with pytest.raises(OSError, match="disk full"):
        searcher.suggest("b")


def test_strategy_that_waits_for_nothing_is_an_error():
    strategy = evolution(num_evaluations=1)
    strategy.ask()
    with pytest.raises(RuntimeError, match="no trial carries"):
        StrategySearcher(strategy).suggest("a")


def test_search_in_which_everything_crashes_is_given_up():
    searcher = StrategySearcher(evolution())
    for number in range(10):
        assert searcher.suggest(str(number))
        searcher.on_trial_complete(str(number), error=True)
    with pytest.raises(RuntimeError, match=r"first 10 trials crashed. See error.txt of trial 9"):
        searcher.suggest("next")


def test_a_bad_node_among_many_does_not_end_a_search():
    """Its trials crash at once, while those elsewhere take minutes to their first results."""
    searcher = StrategySearcher(evolution(num_evaluations=400), max_concurrent=16)
    for number in range(16):
        assert searcher.suggest(f"first {number}")
    for number in range(44):
        searcher.on_trial_complete("first 0" if number == 0 else f"again {number}", error=True)
        assert searcher.suggest(f"again {number + 1}"), number
    searcher.on_trial_complete("again 44", error=True)
    with pytest.raises(RuntimeError, match=r"All of the first 45 trials crashed"):
        searcher.suggest("next")


def test_damaged_state_is_refused(tmp_path):
    (tmp_path / "state.json").write_text('{"strategy": ')
    with pytest.raises(ValueError, match="truncated or damaged"):
        StrategySearcher(evolution()).restore(str(tmp_path / "state.json"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_concurrent": 0}, "`max_concurrent` must be at least 1"),
        ({"max_retries": -1}, "`max_retries` must be at least 0"),
        ({"metrics": []}, "`metrics` must name what AsynchronousEvolution is told"),
        ({"metrics": ["status"]}, "`metrics` must not be named"),
    ],
)
def test_wrong_options_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        StrategySearcher(evolution(), **options)


def test_ray_sees_no_metric_and_no_wrapped_searcher():
    searcher = StrategySearcher(evolution())
    assert searcher.metric is None
    assert searcher.mode is None
    assert not hasattr(searcher, "searcher")


@pytest.mark.ray
def test_any_trainable_is_searched_to_the_end(cluster, tmp_path):
    def trainable(config):
        architecture = candidate_architecture(config)
        number = int(config["candidate_id"])
        if number == 3:
            raise ValueError("a bug")
        metrics = {"accuracy": int(architecture.arch_id[:4], 16) / 65536, "latency_ms": float(number)}
        if number == 4:
            del metrics["accuracy"]
        if number == 5:
            metrics["accuracy"] = float("nan")
        if number != 6:
            tune.report(metrics)

    strategy = evolution(num_evaluations=10)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 0.5}),
        param_space={"other": 1},
        tune_config=tune.TuneConfig(
            search_alg=StrategySearcher(strategy, max_retries=0),
            num_samples=-1,
            max_concurrent_trials=2,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    tuner.fit()
    statuses = {key: value["status"] for key, value in results(strategy).items()}
    assert strategy.is_finished
    assert statuses == {str(key): "failed" if 3 <= key <= 6 else "ok" for key in range(10)}
    assert strategy.architecture("0").space == "cell"
