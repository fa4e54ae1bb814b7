import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from ray import tune

from nasray.objectives import Objective
from nasray.tune.multi_objective_halving import MultiObjectiveHalving, halving_places

OBJECTIVES = [Objective(name="accuracy", direction="maximize"), Objective(name="latency_ms")]


def halving(**options):
    return MultiObjectiveHalving(OBJECTIVES, **{"reduction_factor": 2, "max_t": 9, **options})


def report(scheduler, name, iteration, **metrics):
    return scheduler.on_trial_result(
        None, SimpleNamespace(trial_id=name), {"training_iteration": iteration, "done": False, **metrics}
    )


def dominates(first, second):
    return all(x <= y for x, y in zip(first, second, strict=True)) and tuple(first) != tuple(second)


def peeled_fronts(rows):
    left, fronts = list(range(len(rows))), []
    while left:
        front = [i for i in left if not any(dominates(rows[j], rows[i]) for j in left)]
        fronts.append(front)
        left = [i for i in left if i not in front]
    return fronts


def brute_force_net(rows):
    """All rows in order: by fronts; on each, from the first objective's best, the farthest from all before it."""
    order = []
    for front in peeled_fronts(rows):
        points = np.array([rows[i] for i in front])
        extent = np.ptp(points, axis=0)
        points = points / np.where(extent > 0, extent, 1)
        chosen = [min(range(len(front)), key=lambda i: points[i][0])]
        while len(chosen) < len(front):
            rest = [i for i in range(len(front)) if i not in chosen]
            chosen.append(max(rest, key=lambda i: min(np.linalg.norm(points[i] - points[j]) for j in chosen)))
        order += [front[i] for i in chosen]
    return order


def brute_force_crowding(rows):
    """Number of rows on an earlier front, or on the same one with more room."""
    fronts, rooms = peeled_fronts(rows), {}
    for front in fronts:
        for i in front:
            rooms[i] = 0.0
            for m in range(len(rows[0])):
                values = sorted(rows[j][m] for j in front)
                place, extent = values.index(rows[i][m]), values[-1] - values[0]
                at_end = place in (0, len(values) - 1)
                rooms[i] += np.inf if at_end else (values[place + 1] - values[place - 1]) / extent
    rank = {i: number for number, front in enumerate(fronts) for i in front}
    return [
        sum(rank[j] < rank[i] or (rank[j] == rank[i] and rooms[j] > rooms[i]) for j in rank) for i in range(len(rows))
    ]


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_places_are_those_of_brute_force(seed, num_objectives):
    rows = np.random.default_rng(seed).normal(size=(17, num_objectives))
    assert np.argsort(halving_places(rows)).tolist() == brute_force_net(rows.tolist())
    distinct = rows.tolist()
    assert halving_places(rows, "crowding").tolist() == brute_force_crowding(distinct)


def test_places_do_not_depend_on_units():
    rows = np.random.default_rng(0).normal(size=(20, 2))
    for order in ("epsilon_net", "crowding"):
        assert np.array_equal(halving_places(rows, order), halving_places(rows * [1000.0, 0.01] + 7, order))


def test_copies_come_last_on_their_front():
    rows = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.4, 0.4]])
    assert halving_places(rows).tolist() == [0, 1, 3, 2]


@pytest.mark.parametrize("reduction_factor", [1.5, 2, 3, 4])
def test_decisions_are_those_of_brute_force_with_results_in_any_order(reduction_factor):
    chance = np.random.default_rng(3)
    scheduler = halving(reduction_factor=reduction_factor, max_t=20, grace_period=2)
    milestones = [2 * reduction_factor**k for k in range(20) if 2 * reduction_factor**k < 20]
    assert scheduler.milestones == pytest.approx(milestones)
    quality = chance.normal(size=(30, 2))
    times, rungs = dict.fromkeys(range(30), 0), [[] for _ in milestones]
    while times:
        trial = int(chance.choice(sorted(times)))
        times[trial] += 1
        accuracy, latency_ms = quality[trial] + chance.normal(size=2) / times[trial]
        decision = report(scheduler, str(trial), times[trial], accuracy=accuracy, latency_ms=latency_ms)
        expected = "CONTINUE"
        crossed = [k for k, milestone in enumerate(milestones) if times[trial] - 1 < milestone <= times[trial]]
        if crossed:
            rung = rungs[crossed[-1]]
            rung.append((-accuracy, latency_ms))
            place = brute_force_net(rung).index(len(rung) - 1)
            expected = "CONTINUE" if place == 0 or place < len(rung) / reduction_factor else "STOP"
        if times[trial] >= 20:
            expected = "STOP"
        assert decision == expected
        if expected == "STOP":
            del times[trial]


def test_dominated_trial_stops_and_front_goes_on():
    scheduler = halving()
    assert report(scheduler, "first", 1, accuracy=0.5, latency_ms=5.0) == "CONTINUE"
    assert report(scheduler, "worse", 1, accuracy=0.4, latency_ms=6.0) == "STOP"
    assert report(scheduler, "better", 1, accuracy=0.6, latency_ms=4.0) == "CONTINUE"
    assert report(scheduler, "fast", 1, accuracy=0.1, latency_ms=1.0) == "CONTINUE"
    assert report(scheduler, "first", 9, accuracy=0.9, latency_ms=5.0) == "STOP"
    assert "2 stopped" in scheduler.debug_string()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "high"])
def test_objective_that_is_not_finite_stops_its_trial_only(value):
    scheduler = halving(grace_period=2)
    assert report(scheduler, "a", 1, accuracy=value, latency_ms=1.0) == "STOP"
    scheduler.on_trial_complete(None, SimpleNamespace(trial_id="a"), {"training_iteration": 2, "accuracy": value})
    assert report(scheduler, "b", 2, accuracy=0.1, latency_ms=1.0) == "CONTINUE"


def test_missing_objective_stops_a_trial_at_a_rung():
    scheduler = halving(grace_period=2)
    assert report(scheduler, "a", 1, latency_ms=1.0) == "CONTINUE"
    assert report(scheduler, "a", 2, latency_ms=1.0) == "STOP"
    assert scheduler.on_trial_result(None, SimpleNamespace(trial_id="b"), {"accuracy": 0.5}) == "CONTINUE"


def test_trial_that_ended_by_itself_counts_for_the_others():
    scheduler = halving()
    ended = {"training_iteration": 1, "accuracy": 0.9, "latency_ms": 1.0}
    scheduler.on_trial_complete(None, SimpleNamespace(trial_id="a"), ended)
    assert report(scheduler, "b", 1, accuracy=0.8, latency_ms=2.0) == "STOP"


def test_pickled_and_restored_schedulers_decide_alike(tmp_path):
    chance, scheduler = np.random.default_rng(1), halving(order="crowding", max_t=50)
    for trial in range(20):
        report(scheduler, str(trial), 1 + trial % 5, accuracy=chance.random(), latency_ms=chance.random())
    file = tmp_path / "scheduler.json"
    scheduler.save(str(file))
    restored = halving(order="crowding", max_t=50)
    restored.restore(str(file))
    copies = [pickle.loads(pickle.dumps(scheduler)), restored]
    for trial in range(10, 40):
        metrics = {"accuracy": chance.random(), "latency_ms": chance.random()}
        expected = report(scheduler, str(trial), 6, **metrics)
        assert [report(copy, str(trial), 6, **metrics) for copy in copies] == [expected] * 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rungs": 3}', '{"rungs": [], "reached": {}, "num_stopped": 0}'])
def test_a_damaged_or_foreign_state_is_refused(tmp_path, text):
    file = tmp_path / "scheduler.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"scheduler\.json h(olds no state|as 0 rungs)"):
        halving().restore(str(file))


@pytest.mark.parametrize(
    ("objectives", "options", "sentence"),
    [
        ([], {}, "`objectives` must be different metrics"),
        (OBJECTIVES[:1] * 2, {}, "`objectives` must be different metrics"),
        (OBJECTIVES, {"grace_period": 0}, "`grace_period` must be positive"),
        (OBJECTIVES, {"grace_period": 11, "max_t": 10}, "`grace_period` must be positive"),
        (OBJECTIVES, {"reduction_factor": 1}, "`reduction_factor` above 1"),
        (OBJECTIVES, {"order": "x"}, "`order` must be epsilon_net or crowding"),
    ],
)
def test_wrong_options_are_refused(objectives, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        MultiObjectiveHalving(objectives, **options)


@pytest.mark.ray
def test_tuner_stops_dominated_trials_and_trains_the_front_to_the_end(cluster, tmp_path):
    # One after another: a first one that has no rivals, seven that it dominates, two front points, two broken ones.
    nan = float("nan")
    qualities = [(0.5, 5.0), *((0.4 - 0.01 * k, 6.0 + k) for k in range(7)), (0.9, 3.0), (0.6, 1.0), (nan, 1.0), (0.9,)]

    def train(config):
        for iteration in range(1, 10):
            row = dict(zip(("accuracy", "latency_ms"), qualities[config["number"]], strict=False))
            tune.report({**row, "iteration": iteration})

    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={"number": tune.grid_search(list(range(len(qualities))))},
        tune_config=tune.TuneConfig(scheduler=halving(), max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    reached = {result.config["number"]: result.metrics["iteration"] for result in tuner.fit()}
    assert [reached[number] for number in range(1, 8)] == [1] * 7
    assert [reached[number] for number in (0, 8, 9)] == [9] * 3
    assert [reached[number] for number in (10, 11)] == [1] * 2
