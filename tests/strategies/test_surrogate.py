"""The surrogate's parts against oracles, and what it must do with constraints."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import check_grad

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto, Scalarised
from nasray.objectives import Constraint, Objective
from nasray.pareto import front_indices, hypervolume
from nasray.spaces.chain import ChainSpace
from nasray.spaces.tabular import TabularSpace
from nasray.strategies.candidate_pool import CandidatePool, spread_out
from nasray.strategies.encoding import ChoiceEncoder
from nasray.strategies.expected_gain import Scene, expected_gain
from nasray.strategies.metric_model import MetricModel
from nasray.strategies.metric_scale import MetricScale, Prediction
from nasray.strategies.running_front import RunningFront
from nasray.strategies.split_objectives import SplitObjectives
from nasray.strategies.surrogate import SurrogateSearch

ACCURACY, COST = Objective(name="accuracy", direction="maximize"), Objective(name="cost")


def table(seed: int = 0) -> TabularSpace:
    rows = [(a, b, c, d) for a in "xyz" for b in "xyz" for c in range(4) for d in range(4)]
    frame = pd.DataFrame(rows, columns=["a", "b", "c", "d"])
    worth = frame.a.map({"x": 0.0, "y": 1.0, "z": 2.5}) + frame.b.map({"x": 0.0, "y": 1.5, "z": 2.0})
    noise = np.random.default_rng(seed).normal(scale=0.1, size=len(frame))
    frame["accuracy"] = 1 - 1 / (1 + worth + frame.c + noise.clip(-0.5))
    frame["cost"] = 1 + worth**2 + frame.c + 2.0 * frame.d
    frame["size"] = frame.cost * 2
    return TabularSpace(frame, architecture="a,b,c,d", metrics=["accuracy", "cost", "size"])


def known_of(space: TabularSpace, *names: str):
    def known(architecture: Architecture) -> Mapping[str, float]:
        return {name: space.metrics(architecture)[name] for name in names}

    return known


def search_of(space: TabularSpace, formulation: Pareto, *names: str, evaluations: int = 40, seed: int = 0):
    generator = np.random.default_rng(seed)
    return SurrogateSearch(
        space, formulation, known=known_of(space, *names), num_evaluations=evaluations, generator=generator
    )


def run(search: SurrogateSearch) -> list[Architecture]:
    asked = []
    while trial := search.ask():
        asked.append(trial.architecture)
        search.tell(trial.trial_id, Evaluation(metrics=search.space.metrics(trial.architecture)))  # type: ignore[attr-defined]
    return asked


def test_the_models_gradient_is_right() -> None:
    space = table()
    pool = CandidatePool(space, known_of(space, "cost", "size")).whole
    assert pool is not None
    model = MetricModel(ChoiceEncoder(space).slots, pool.features_ND.shape[1])
    rows = np.arange(0, 144, 6)
    values = space.column("accuracy")[rows]
    values = (values - values.mean()) / values.std()
    arguments = (pool.codes_NP[rows], pool.features_ND[rows], values)
    generator = np.random.default_rng(0)
    for _ in range(3):
        at = model.parameters + generator.normal(scale=0.3, size=len(model.parameters))
        error = check_grad(
            lambda x: model._objective(x, *arguments)[0], lambda x: model._objective(x, *arguments)[1], at
        )
        assert error < 1e-4


def test_the_model_learns_and_knows_how_sure_it_is() -> None:
    space = table()
    pool = CandidatePool(space, known_of(space, "cost")).whole
    assert pool is not None
    order = np.random.default_rng(0).permutation(144)
    seen, unseen = order[:60], order[60:]
    values = space.column("accuracy")
    model = MetricModel(ChoiceEncoder(space).slots, pool.features_ND.shape[1])
    model.tune(pool.codes_NP[seen], pool.features_ND[seen], values[seen])
    model.condition(pool.codes_NP[seen], pool.features_ND[seen], values[seen])
    mean, deviation = model.predict(pool.codes_NP[unseen], pool.features_ND[unseen])
    errors = values[unseen] - mean
    assert np.std(errors) < 0.4 * np.std(values[unseen])
    assert np.mean(np.abs(errors) < 2 * deviation) > 0.75


@pytest.mark.parametrize(
    ("num_predicted", "num_known"), [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0), (1, 3), (2, 2)]
)
def test_expected_gain_is_the_mean_gain_of_draws(num_predicted: int, num_known: int) -> None:
    generator = np.random.default_rng(1)
    num_objectives = num_predicted + num_known
    front = generator.random((4, num_objectives)) * 0.8
    scene = Scene(front, np.zeros(num_objectives), np.ones(num_objectives))
    known = generator.random((5, num_known))
    scale = MetricScale(shift=-0.1, knee=np.log(0.7), slope=0.4)
    predictions = [
        Prediction(np.log(generator.random(5) * 0.6 + 0.3), np.full(5, 0.2), scale) for _ in range(num_predicted)
    ]
    gains = expected_gain(predictions, known, scene, generator, num_points=8192)
    before = hypervolume(front, scene.reference_M)
    for row in range(5):
        draws = [scale.inverse(generator.normal(p.mean_N[row], 0.2, size=1500)) for p in predictions]
        points = np.column_stack([*draws, *(np.full(1500, value) for value in known[row])])
        mean = np.mean([hypervolume(np.vstack([front, point]), scene.reference_M) - before for point in points])
        assert gains[row] == pytest.approx(mean, abs=0.006, rel=0.08)


def test_gains_before_any_result_are_whole_volumes() -> None:
    scene = Scene(np.empty((0, 3)), np.zeros(3), np.ones(3))
    sure = Prediction(np.log([0.6]), np.array([1e-9]), MetricScale(shift=-0.1, knee=0.0))
    gain = expected_gain([sure], np.array([[0.2, 0.6]]), scene, np.random.default_rng(0), num_points=1)
    assert gain[0] == pytest.approx(0.5 * 0.8 * 0.4)


def test_the_scale_is_undone_by_its_inverse() -> None:
    values = np.append(np.random.default_rng(0).gamma(1.0, size=200), [50.0, 80.0]) + 3
    scale = MetricScale.of(values)
    assert (scale.forward(values) > scale.knee).any()
    np.testing.assert_allclose(scale.inverse(scale.forward(values)), values)
    assert np.isfinite(MetricScale.of(np.full(5, 2.0)).forward(np.full(5, 2.0))).all()


def test_what_will_hardly_learn_is_told_from_what_will() -> None:
    errors = np.append(np.linspace(5.0, 15.0, 40), np.full(20, 90.0))
    scale = MetricScale.of(errors)
    certain = Prediction(scale.forward(np.array([6.0, 15.0, 90.0])), np.full(3, 0.05), scale)
    np.testing.assert_allclose(certain.probability_of_learning(), [1.0, 1.0, 0.0], atol=1e-3)


def test_it_finds_the_front_with_fewer_evaluations_than_random_search() -> None:
    formulation = Pareto([ACCURACY, COST])
    found = []
    for seed in range(3):
        space = table(seed)
        every = np.column_stack([-space.column("accuracy"), space.column("cost")])
        rows = [space.index(a) for a in run(search_of(space, formulation, "cost", "size", seed=seed))]
        some = np.random.default_rng(seed).permutation(144)[:40]
        reference = every.max(axis=0)
        whole, own, random = (hypervolume(every[r], reference) for r in (range(144), rows, some))
        found.append(((whole - own) / whole, (whole - random) / whole))
    ours, theirs = np.mean(found, axis=0)
    assert ours < 0.25 * theirs


def test_known_constraints_veto_and_learned_ones_guide() -> None:
    space = table()
    limits = [Constraint.parse("cost<=9"), Constraint.parse("accuracy>=0.5")]
    asked = run(search_of(space, Pareto([ACCURACY, Objective(name="size")], limits), "cost", "size", evaluations=30))
    metrics = [space.metrics(a) for a in asked]
    assert all(m["cost"] <= 9 for m in metrics)
    assert sum(m["accuracy"] >= 0.5 for m in metrics[16:]) >= 10


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_limits_on_both_sides_of_a_learned_metric_count(order: slice) -> None:
    limits = [Constraint.parse("size<=9"), Constraint.parse("size>=4"), Constraint.parse("accuracy<=0.8")][order]
    split = SplitObjectives(Pareto([ACCURACY, COST], limits), ["cost"])
    column = [metric.name for metric in split.learned].index("size")
    sign = split.learned[column].sign
    sizes_N, accuracies_N = np.array([3.0, 4.0, 6.0, 9.0, 10.0, 6.0]), np.array([0.5] * 5 + [0.9])
    values_NL = np.column_stack([-accuracies_N, sign * sizes_N])
    is_feasible_N = split.is_feasible(values_NL, np.ones((6, 1)))
    np.testing.assert_array_equal(is_feasible_N, [False, True, True, True, False, False])

    scales = [MetricScale.of(values_N) for values_N in values_NL.T]
    predictions = [
        Prediction(scale.forward(values_N), np.full(6, 1e-9), scale)
        for scale, values_N in zip(scales, values_NL.T, strict=True)
    ]
    inside_N = np.array([0, 2, 5])  # not on a limit, where the chance is a half
    np.testing.assert_allclose(split.chance_of_feasibility(predictions)[inside_N], [0.0, 1.0, 0.0], atol=1e-9)


def test_a_search_ends_when_only_vetoed_candidates_are_left() -> None:
    space = table()
    search = search_of(space, Pareto([ACCURACY, COST], [Constraint.parse("cost<=4")]), "cost", evaluations=144)
    asked = run(search)
    assert {space.index(a) for a in asked} == set(np.flatnonzero(space.column("cost") <= 4).tolist())
    assert search.is_finished


def test_one_objective_under_a_constraint_is_found() -> None:
    space = table()
    search = search_of(space, Pareto([ACCURACY], [Constraint.parse("cost<=6")]), "cost", evaluations=35)
    asked = {space.index(a) for a in run(search)}
    allowed = np.flatnonzero(space.column("cost") <= 6)
    best = allowed[np.argsort(-space.column("accuracy")[allowed])[:2]]
    assert asked & set(best.tolist())


def test_hyper_parameters_are_fitted_anew_every_so_many_results_and_kept_in_between() -> None:
    space = table()
    search = SurrogateSearch(
        space,
        Pareto([ACCURACY, COST]),
        known=known_of(space, "cost"),
        num_evaluations=28,
        generator=np.random.default_rng(0),
        num_initial=6,
        refit_every=7,
    )
    changed_at, before = [], search.state_dict()["model"]["ranking"]["parameters"]
    for num_told in range(28):
        trial = search.ask()
        assert trial is not None
        after = search.state_dict()["model"]["ranking"]["parameters"]
        if after != before:
            changed_at.append(num_told)
        before = after
        search.tell(trial.trial_id, Evaluation(metrics=space.metrics(trial.architecture)))
    assert changed_at == [6, 13, 20, 27]


def test_a_large_space_is_sampled() -> None:
    space = ChainSpace(num_classes=10, in_channels=1, resolution=8)

    def known(architecture: Architecture) -> Mapping[str, float] | None:
        plan = space.plan(architecture)
        return {"parameters": float(plan.parameters)} if plan.is_feasible and plan.parameters < 1e5 else None

    search = SurrogateSearch(
        space,
        Pareto([ACCURACY, Objective(name="parameters")]),
        known=known,
        num_evaluations=8,
        generator=np.random.default_rng(0),
        num_initial=5,
    )
    while trial := search.ask():
        metrics = known(trial.architecture)
        assert metrics is not None, "a vetoed candidate must not be asked for"
        accuracy = 1 - 1 / (2 + np.log(metrics["parameters"]))
        search.tell(trial.trial_id, Evaluation(metrics={**metrics, "accuracy": accuracy}))
    assert search.is_finished


def test_many_evaluations_are_ranked_in_batches_and_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_ONE_AT_A_TIME", 20), ("_LATEST", 20), ("_FROM_FRONT", 3), ("_MOST_AT_ONCE", 3)):
        monkeypatch.setattr(f"nasray.strategies.surrogate.{name}", value)
    space, formulation = table(), Pareto([ACCURACY, COST])
    whole = search_of(space, formulation, "cost", evaluations=100)
    asked = run(whole)
    assert len(set(asked)) == 100
    first, second = (search_of(space, formulation, "cost", evaluations=100) for _ in range(2))
    for _ in range(72):
        trial = first.ask()
        assert trial is not None
        first.tell(trial.trial_id, Evaluation(metrics=space.metrics(trial.architecture)))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert run(second) == asked[72:]


def test_an_encoder_counts_options_that_choices_share() -> None:
    encoder = ChoiceEncoder(table())
    codes = np.array([[0, 0, 3, 1], [2, 0, 3, 3]])
    np.testing.assert_array_equal(encoder.counts(codes), [[2, 0, 0, 0, 1, 0, 1], [1, 0, 1, 0, 0, 0, 2]])


def test_a_running_front_is_the_front() -> None:
    values = np.random.default_rng(0).integers(0, 12, size=(200, 3)).astype(float)
    front = RunningFront()
    for number, row in enumerate(values):
        front.add(str(number), row)
    assert [int(key) for key in front.trial_ids] == front_indices(values)


def chains(evaluations: int) -> tuple[SurrogateSearch, list[str]]:
    """Return a search of a large space, and which architectures' costs it asked for."""
    space = ChainSpace(num_classes=10, in_channels=1, resolution=8, num_feature_slots=4, num_head_slots=2)
    asked: list[str] = []

    def known(architecture: Architecture) -> Mapping[str, float] | None:
        asked.append(architecture.arch_id)
        plan = space.plan(architecture)
        return {"parameters": float(plan.parameters)} if plan.is_feasible else None

    search = SurrogateSearch(
        space,
        Pareto([ACCURACY, Objective(name="parameters")]),
        known=known,
        num_evaluations=evaluations,
        generator=np.random.default_rng(0),
    )
    return search, asked


def train(search: SurrogateSearch, steps: int) -> list[Architecture]:
    asked = []
    for _ in range(steps):
        trial = search.ask()
        assert trial is not None
        asked.append(trial.architecture)
        parameters = float(search.space.plan(trial.architecture).parameters)  # type: ignore[attr-defined]
        metrics = {"parameters": parameters, "accuracy": 1 - 1 / np.log(parameters + 3)}
        search.tell(trial.trial_id, Evaluation(metrics=metrics))
    return asked


def test_a_sampled_space_resumes_from_a_small_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasray.strategies.surrogate._SAMPLE", 60)
    monkeypatch.setattr("nasray.strategies.surrogate._ONE_AT_A_TIME", 25)
    monkeypatch.setattr("nasray.strategies.surrogate._MOST_AT_ONCE", 3)
    monkeypatch.setattr("nasray.strategies.surrogate._TUNED_OFTEN", 20)
    whole = train(chains(50)[0], 50)
    for stop in (8, 23, 41):
        (first, _), (second, _) = chains(50), chains(50)
        train(first, stop)
        state = json.dumps(first.state_dict())
        assert stop < 12 or len(json.dumps(first.state_dict()["model"])) < 10_000
        second.load_state_dict(json.loads(state))
        assert train(second, 50 - stop) == whole[stop:]


def test_costs_of_a_candidate_are_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasray.strategies.surrogate._SAMPLE", 60)
    search, asked = chains(40)
    asked.clear()  # the sample that scales are taken from
    assert {asked.count(architecture.arch_id) for architecture in train(search, 40)} == {1}


def test_a_warm_start_that_costs_veto_is_evaluated_but_not_learned_from() -> None:
    space = table()

    def known(architecture: Architecture) -> Mapping[str, float] | None:
        cost = space.metrics(architecture)["cost"]
        return {"cost": cost} if cost < 12 else None

    dear = space.architectures[int(space.column("cost").argmax())]
    search = SurrogateSearch(
        space,
        Pareto([ACCURACY, COST]),
        known=known,
        num_evaluations=20,
        generator=np.random.default_rng(0),
        initial=[dear],
    )
    asked = run(search)
    assert asked[0] == dear
    assert all(space.metrics(a)["cost"] < 12 for a in asked[1:])


def test_an_initial_design_is_spread_out() -> None:
    space = table()
    pool = CandidatePool(space, known_of(space, "cost")).whole
    assert pool is not None
    design = spread_out(pool, 12, np.random.default_rng(0))
    assert len(set(design)) == 12
    assert space.metrics(design[0])["cost"] == space.column("cost").min()


def test_known_metrics_that_are_no_numbers_are_refused_with_their_architecture() -> None:
    def known(architecture: Architecture) -> Mapping[str, float]:
        return {"cost": np.nan if architecture["a"] == "y" else 1.0}

    options = {"num_evaluations": 9, "generator": np.random.default_rng(0)}
    with pytest.raises(ValueError, match=r"must give finite numbers, got cost = nan for \{'a': 'y'"):
        SurrogateSearch(table(), Pareto([ACCURACY, COST]), known=known, **options)


def test_wrong_settings_are_refused() -> None:
    space = table()
    with pytest.raises(ValueError, match="must leave an objective to learn"):
        search_of(space, Pareto([COST]), "cost")
    with pytest.raises(ValueError, match="must be Pareto"):
        search_of(space, Scalarised([ACCURACY, COST], [[1, 1]]), "cost")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must give metrics for some architecture"):
        SurrogateSearch(
            space, Pareto([ACCURACY]), known=lambda a: None, num_evaluations=3, generator=np.random.default_rng(0)
        )
