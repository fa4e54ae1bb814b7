"""What a search is about: figures of somebody's own function, and networks that are trained."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ray.tune.utils import flatten_dict
from torch import nn

from nasray.archive import ParetoArchive
from nasray.data import Batches, load_image_data
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.models.build import build_network
from nasray.objectives import Constraint, Objective
from nasray.spaces.cell import CellSpace
from nasray.spaces.chain import ChainSpace
from nasray.spaces.elastic_space import ElasticSpace, choice
from nasray.spaces.mobile_networks import mobile_space
from nasray.spaces.multi_scale import MultiScaleSettings, MultiScaleSpace
from nasray.strategies.strategy import Trial
from nasray.training.evaluate import evaluate
from nasray.training.network_evaluation import NetworkEvaluationConfig, NetworkEvaluator
from nasray.tune.candidate_result import read_evaluation, write_evaluation
from nasray.tune.energy.callback import EnergyCallback
from nasray.tune.problems.candidate_counter import CandidateCounter
from nasray.tune.problems.function import _evaluate
from nasray.tune.problems.shared import SharedProblem
from nasray.tune.problems.trained import TrainedProblem
from nasray.tune.search_api import Training, search
from nasray.tune.search_record import evaluation_row, recorded_evaluation
from nasray.tune.search_result import SearchResult

DIGITS = {"num_classes": 10, "in_channels": 1, "resolution": 8}


class Net(nn.Module):
    def __init__(self, width=choice(4, 8)):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.classifier = nn.Linear(width, 10)

    def forward(self, images):
        return self.classifier(self.layers(images).amax((2, 3)))


SPACE = ElasticSpace(Net)


@pytest.fixture(scope="module")
def data():
    return load_image_data(None, max_train=120)


@pytest.fixture(scope="module")
def recipe(data):
    return Training(data, epochs=1, batch_size=16).recipe()


def charged(evaluation, required, energy_j=37.5):
    """The evaluation as it comes through a trial's result whose energy was metered."""
    callback = EnergyCallback(place="56")
    energy = None if energy_j is None else SimpleNamespace(energy_j=energy_j, quality="estimated")
    callback._leases["t"] = SimpleNamespace(energy=lambda: energy)
    result = write_evaluation(evaluation, required)
    callback.on_trial_result(1, [], SimpleNamespace(trial_id="t"), result)
    return result, read_evaluation(flatten_dict(result), required)


@pytest.mark.parametrize("energy_j", [37.5, None], ids=["metered", "no meter"])
@pytest.mark.parametrize("required", [("accuracy", "energy_j"), ("accuracy",)], ids=["objective", "on record"])
def test_an_evaluations_own_energy_is_kept(required, energy_j):
    result, evaluation = charged(Evaluation(metrics={"accuracy": 0.5, "energy_j": 2e-6}), required, energy_j)
    assert evaluation.status == "ok"
    assert evaluation.metrics["energy_j"] == 2e-6
    if "energy_j" in required:
        assert (result["energy_j"], result["energy_quality"]) == (2e-6, "reported")
        assert evaluation.metrics["carbon_g"] == pytest.approx(2e-6 / 3.6e6 * 56)
    else:
        assert ("carbon_g" in evaluation.metrics) == (energy_j is not None)  # that of the search
    row = evaluation_row(Trial(trial_id="0", architecture=SPACE.smallest()), evaluation)
    assert recorded_evaluation(json.loads(json.dumps(row))) == evaluation


def test_an_evaluation_without_energy_is_charged_the_metered_one():
    for required in (("accuracy", "energy_j", "carbon_g"), ("accuracy",)):
        result, evaluation = charged(Evaluation(metrics={"accuracy": 0.5}), required)
        assert evaluation.metrics["energy_j"] == result["energy_j"] == 37.5
        assert evaluation.metrics["carbon_g"] == pytest.approx(37.5 / 3.6e6 * 56)
        assert result["energy_quality"] == "estimated"
    _, evaluation = charged(Evaluation(metrics={"accuracy": 0.5}), ("accuracy", "energy_j"), None)
    assert (evaluation.status, evaluation.reason) == ("failed", "energy_j is None, not a number")


def test_columns_that_are_overwritten_do_not_hide_what_was_measured():
    result = write_evaluation(Evaluation(metrics={"macs": 7.0, "time_total_s": 3.0}), ("macs", "time_total_s", "lost"))
    flat = flatten_dict(result | {"macs": None, "time_total_s": 99.0, "lost": 1.0})
    assert read_evaluation(flat, ("macs", "time_total_s", "lost")).metrics == {
        "macs": 7.0,
        "time_total_s": 3.0,
        "lost": 1.0,  # a callback's
    }


@pytest.mark.parametrize(
    "value",
    [1, 0.5, np.float32(0.5), np.float64(0.5), np.int64(3), np.array(0.5), torch.tensor(0.5), torch.tensor([2])],
)
def test_a_function_may_give_numbers_of_any_kind(value):
    evaluation = _evaluate(lambda architecture: {"quality": value}, SPACE.smallest())
    assert evaluation.status == "ok"
    assert evaluation.metrics == {"quality": float(value)} and type(evaluation.metrics["quality"]) is float


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (True, "quality is True, not a number"),
        (np.bool_(False), "quality is False, not a number"),
        ("0.5", "quality is '0.5', not a number"),
        (None, "quality is None, not a number"),
        (np.zeros(2), r"quality is array([0., 0.]), not a number"),
        (math.nan, "quality is nan"),
    ],
)
def test_what_is_no_number_is_a_failure_that_says_so(value, reason):
    evaluation = _evaluate(lambda architecture: {"quality": value, "cost": 2}, SPACE.smallest())
    assert (evaluation.status, evaluation.reason) == ("failed", reason)
    assert evaluation.metrics["cost"] == 2.0


def simulated(architecture):
    return {"quality": np.float32(architecture["width"]), "energy_j": np.float64(architecture["width"] * 1e-6)}


@pytest.mark.ray
def test_a_search_goes_by_the_energy_that_a_function_gives(cluster, tmp_path):
    options = {
        "objectives": ["maximize quality", "minimize energy_j"],
        "strategy": "random",
        "evaluations": 2,
        "run_dir": tmp_path / "run",
        "shows_progress": False,
    }
    result = search(SPACE, simulated, **options)
    assert sorted(result.to_dataframe()["energy_j"]) == pytest.approx([4e-6, 8e-6])
    assert len(result.front) == 2
    account = json.loads((tmp_path / "run" / "energy.json").read_text())
    assert account["stages"]["search"]["energy_j"] is None or account["stages"]["search"]["energy_j"] > 1e-3
    again = search(SPACE, simulated, resume=True, **options)
    assert again.to_dataframe().equals(result.to_dataframe())


@pytest.mark.parametrize("name", ["accuracy", "macs", "memory_bytes", "energy_j", "lifetime_carbon_g", "status"])
def test_costs_with_the_name_of_something_else_are_refused(name, data, recipe):
    for kind in (TrainedProblem, SharedProblem):
        with pytest.raises(ValueError, match=f"`costs` must not be named .*got '{name}'.*Rename it"):
            kind(SPACE, data, recipe, seed=0, costs={"mine": float, name: float})
    TrainedProblem(SPACE, data, recipe, seed=0, costs={"latency_ms": float})  # nobody else measures it


def test_an_evaluator_alone_refuses_costs_that_it_measures_itself(data, recipe):
    config = NetworkEvaluationConfig(training=recipe)
    with pytest.raises(ValueError, match=r"`costs` must not be named accuracy, .* got 'parameters'"):
        NetworkEvaluator(SPACE, data, config, costs={"parameters": float})


@pytest.mark.parametrize(
    ("space", "given"),
    [
        (ChainSpace(**DIGITS | {"num_classes": 3}), "chain-8 for channels 1, resolution 8, classes 3"),
        (CellSpace(**DIGITS | {"in_channels": 3}), "cell for channels 3, resolution 8, classes 10"),
        (
            mobile_space("mobile-32", num_classes=10, in_channels=3),
            "mobile-32 for channels 3, resolution 32, classes 10",
        ),
        (MultiScaleSpace(MultiScaleSettings()), "multi_scale for channels 3, resolution 32, classes 10"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_spaces_for_other_images_are_refused(space, given, data, recipe):
    message = rf"must be for images of digits \(channels 1, resolution 8, classes 10\), got {given}\."
    with pytest.raises(ValueError, match=message):
        TrainedProblem(space, data, recipe, seed=0)


@pytest.mark.parametrize(
    "space",
    [
        SPACE,
        ChainSpace(**DIGITS),
        CellSpace(**DIGITS),
        mobile_space("mobile-8", num_classes=10, in_channels=1),
        MultiScaleSpace(MultiScaleSettings(**DIGITS)),
    ],
    ids=lambda space: space.name,
)
def test_spaces_for_the_images_are_taken_and_described(space, data, recipe):
    configuration = TrainedProblem(space, data, recipe, seed=0).configuration()
    assert configuration["layout"]
    assert "costs" not in configuration
    json.dumps(configuration, allow_nan=False)


def layouts(space, data, recipe, **options):
    return TrainedProblem(space, data, recipe, seed=0, **options).configuration()


def test_everything_that_decides_the_outcome_is_recorded(data, recipe):
    base = layouts(ChainSpace(**DIGITS), data, recipe)
    for other in (
        {"max_parameters": 100},
        {"max_macs": 100},
        {"num_feature_slots": 2},
        {"num_head_slots": 2},
        {"batch_norm": False},
    ):
        space = ChainSpace(**DIGITS, **other)
        configuration = layouts(space, data, recipe)
        assert configuration["layout"] == base["layout"] | other
        again = ChainSpace(**configuration["layout"])
        assert (again.name, dict(again.choices), again.max_macs) == (space.name, dict(space.choices), space.max_macs)
    assert layouts(ChainSpace(**DIGITS), data, recipe, costs={"b": float, "a": float})["costs"] == ["a", "b"]
    mobile = mobile_space("mobile-8", num_classes=10, in_channels=1)
    narrow = type(mobile)(type(mobile.spec)(**vars(mobile.spec) | {"num_widths": 3}))
    assert layouts(mobile, data, recipe)["layout"] != layouts(narrow, data, recipe)["layout"]
    scales = [MultiScaleSpace(MultiScaleSettings(**DIGITS, channels=channels)) for channels in (8, 12)]
    assert layouts(scales[0], data, recipe)["layout"] != layouts(scales[1], data, recipe)["layout"]


@pytest.mark.parametrize("limits", [(), (Constraint.parse("test_accuracy>=0.5"),)], ids=["objective", "constraint"])
def test_the_accuracy_on_test_images_is_no_objective(limits, data, recipe):
    name = "accuracy" if limits else "test_accuracy"
    wanted = Pareto([Objective(name=name, direction="maximize"), Objective(name="macs")], limits)
    problem = TrainedProblem(SPACE, data, recipe, seed=0)
    with pytest.raises(ValueError, match=r"must not be test_accuracy: .* looked at once.* Use accuracy"):
        problem.check(wanted)
    problem.check(Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="macs")], ()))


class Run:
    """A run directory of which only the folder counts."""

    def __init__(self, path):
        self.path = path

    def model_directory(self, arch_id):
        return self.path / arch_id


def test_a_plot_of_nothing_says_that_nothing_was_found(data, tmp_path):
    archive = ParetoArchive(Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="macs")], ()))
    archive.add("0", SPACE.smallest(), Evaluation(status="failed", reason="broken"))
    with pytest.raises(ValueError, match="needs an evaluation that is ok and meets the constraints, got none of 1"):
        SearchResult(Run(tmp_path), archive, SimpleNamespace(), None).plot()


def test_the_card_of_a_network_that_was_trained_further_has_its_own_accuracy(data, recipe, tmp_path):
    archive = ParetoArchive(Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="macs")], ()))
    found = Evaluation(metrics={"accuracy": 0.125, "macs": 5.0})
    archive.add("0", SPACE.smallest(), found)
    network = build_network(SPACE, SPACE.smallest()).eval()
    measured = evaluate(network, Batches(data.holdout, data, batch_size=64))["accuracy"]
    for problem in (SharedProblem(SPACE, data, recipe, seed=0), TrainedProblem(SPACE, data, recipe, seed=0)):
        problem.trained = lambda architecture: network
        folder = tmp_path / type(problem).__name__
        SearchResult(Run(tmp_path), archive, problem, data).export(folder=folder, onnx=False)
        card = (folder / "card.md").read_text()
        is_shared = isinstance(problem, SharedProblem)
        assert f"| accuracy | {measured if is_shared else 0.125} |" in card
        assert ("| accuracy in the search, with shared weights | 0.125 |" in card) == is_shared


def test_the_best_accuracy_shown_keeps_to_the_constraints_and_goes_on():
    class FakeBar:
        seconds = 2.0

        def move(self, done, *texts):
            self.shown = (done, *texts)

    bar = FakeBar()
    wanted = Pareto([Objective(name="accuracy", direction="maximize")], [Constraint.parse("macs<=10")])
    rows = [{"status": "ok", "metrics": {"accuracy": 0.6, "macs": 9.0}}, {"status": "failed", "metrics": {}}]
    count = CandidateCounter(bar, rows, wanted)
    count(None, Evaluation(metrics={"accuracy": 0.9, "macs": 11.0}))
    assert bar.shown == (3, "0.50 candidates/s", "best 60.0%")
    count(None, Evaluation(metrics={"accuracy": 0.7, "macs": 10.0}))
    assert bar.shown == (4, "1.00 candidates/s", "best 70.0%")
