"""A search in one call: what it returns, what it leaves behind, and what it refuses."""

import itertools
import json

import pytest
import torch
from torch import nn

from nasray.cli import main
from nasray.data import load_image_data
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.spaces.chain import ChainSpace
from nasray.spaces.elastic_space import ElasticSpace, choice
from nasray.tune.search_api import Training, search
from nasray.tune.search_result import SearchResult
from nasray.tune.strategy_by_name import STRATEGIES, strategy_by_name


class Net(nn.Module):
    def __init__(self, width=choice(4, 8), depth=choice(1, 2)):
        super().__init__()
        widths = [1] + [width] * depth
        self.layers = nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)))
        self.classifier = nn.Linear(width, 10)

    def forward(self, images):
        return self.classifier(self.layers(images).mean((2, 3)))


def figures(architecture):
    if architecture["width"] == 8 and architecture["depth"] == 2:
        raise RuntimeError("this one is broken")
    return {"quality": architecture["width"] + architecture["depth"], "cost": architecture["width"]}


def conv_weights(network):
    return sum(parameter.numel() for parameter in network.layers.parameters())


@pytest.mark.ray
def test_networks_of_a_class_are_trained_searched_and_exported(cluster, tmp_path):
    data = load_image_data(None, max_train=60)
    result = search(
        ElasticSpace(Net),
        Training(data, epochs=1, batch_size=16, costs={"conv_weights": conv_weights}),
        objectives=["maximize accuracy", "minimize macs"],
        constraints=["conv_weights<=400"],
        strategy="surrogate",
        evaluations=4,
        run_dir=tmp_path / "run",
        shows_progress=False,
        place="FRA",
    )
    assert result.archive.num_evaluations == 4 and 1 <= len(result.front) <= 3  # one breaks the constraint
    accuracies = [solution.evaluation.metrics["accuracy"] for solution in result.front]
    assert accuracies == sorted(accuracies, reverse=True)
    best = result.best(accuracy=1000.0)
    assert best.evaluation.metrics["accuracy"] == accuracies[0]
    opened = SearchResult.open(result.path)
    assert opened.archive.formulation.objectives == result.archive.formulation.objectives  # with their ideals
    assert opened.best(accuracy=1000.0) == best
    frame = result.to_dataframe()
    assert {"arch_id", "status", "width", "depth", "accuracy", "macs", "conv_weights", "energy_j"} <= set(frame.columns)
    assert len(frame) == 4 and frame["is_on_front"].sum() == len(result.front)
    columns = list(frame.columns)
    assert columns[:5] == ["arch_id", "status", "reason", "seconds", "is_on_front"]
    assert columns.index("accuracy") < columns.index("width")
    assert [trace.name for trace in result.plot().data] == ["evaluated", "front"]
    assert {path.name for path in result.path.iterdir()} >= {"report.html", "front.json", "energy.json", "run.json"}
    stages = json.loads((result.path / "energy.json").read_text())["stages"]
    assert stages["start-up of workers"]["energy_j"] > 0  # and no part of a candidate's
    report = result.export(best, tmp_path / "best")
    assert max(report.differences.values()) < 1e-4
    logits = torch.export.load(tmp_path / "best" / "model.pt2").module()(torch.zeros(2, 1, 8, 8))
    assert logits.shape == (2, 10)


@pytest.mark.ray
def test_networks_that_share_weights_are_searched_and_go_on(cluster, tmp_path):
    data = load_image_data(None, max_train=120)
    evaluator = Training(data, epochs=2, batch_size=16, shares_weights=True)
    options = {"objectives": ["maximize accuracy", "minimize parameters"], "strategy": "random", "evaluations": 3}
    result = search(ElasticSpace(Net), evaluator, run_dir=tmp_path / "run", shows_progress=False, **options)
    assert {stage["name"] for stage in result.run.run["stages"]} == {"supernet", "search"}
    owners = json.loads((result.path / "energy.json").read_text())["stages"]
    assert {"supernet training", "search"} <= set(owners)
    again = search(ElasticSpace(Net), evaluator, run_dir=tmp_path / "run", shows_progress=False, resume=True, **options)
    assert [stage["name"] for stage in again.run.run["stages"]].count("supernet") == 1
    assert again.to_dataframe().equals(result.to_dataframe())
    assert max(again.export(folder=tmp_path / "best").differences.values()) < 1e-4


@pytest.mark.parametrize(("patience_s", "said"), [(0.0, 1), (60.0, 0)])
def test_counting_that_takes_long_is_told_once(patience_s, said, monkeypatch):
    monkeypatch.setattr("nasray.tune.strategy_by_name._PATIENCE_S", patience_s)
    lines: list[str] = []
    wanted = Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="macs")])
    data = load_image_data(None, max_train=60)
    options = {"num_evaluations": 3, "seed": 0, "initial": (), "say": lines.append}
    strategy_by_name("surrogate", ElasticSpace(Net), wanted, data, None, **options)
    assert len(lines) == said and all(line.startswith("Counting the multiply-adds of ") for line in lines)


class WrongShape(nn.Module):
    def __init__(self, width=choice(4, 8)):
        super().__init__()
        self.layer = nn.Linear(7, width)

    def forward(self, images):
        return self.layer(images.flatten(1))


def test_a_class_none_of_whose_networks_runs_is_told_with_its_error():
    wanted = Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="macs")])
    data = load_image_data(None, max_train=60)
    options = {"num_evaluations": 3, "seed": 0, "initial": (), "say": print}
    with pytest.raises(ValueError, match=r"got none. One raised RuntimeError: .*shapes"):
        strategy_by_name("surrogate", ElasticSpace(WrongShape), wanted, data, None, **options)


@pytest.mark.ray
def test_a_function_is_enough_and_what_it_raises_is_recorded(cluster, tmp_path, capsys):
    run_dir = tmp_path / "r\N{LATIN SMALL LETTER U WITH DIAERESIS}n \N{CJK UNIFIED IDEOGRAPH-65E5}"
    options = {"objectives": ["maximize quality", Objective(name="cost")], "run_dir": run_dir}
    result = search(ElasticSpace(Net), figures, evaluations=4, strategy="random", shows_progress=False, **options)
    frame = result.to_dataframe()
    assert sorted(frame["status"]) == ["failed", "ok", "ok", "ok"]
    assert "this one is broken" in frame["reason"].dropna().item()
    assert {(s.architecture["width"], s.architecture["depth"]) for s in result.front} == {(4, 2), (8, 1)}
    with pytest.raises(ValueError, match="`export` needs a search whose evaluator is a Training"):
        result.export()
    with pytest.raises(ValueError, match=r"Weights must be of objectives \(quality, cost\), got 'speed'"):
        result.best(speed=1.0)
    with pytest.raises(ValueError, match="`x` and `y` must be metrics"):
        result.plot(x="speed")
    with pytest.raises(ValueError, match="already holds a run"):
        search(ElasticSpace(Net), figures, evaluations=4, strategy="random", **options)
    again = search(
        ElasticSpace(Net), figures, evaluations=4, strategy="random", shows_progress=False, resume=True, **options
    )
    assert len(again.front) == 2
    opened = SearchResult.open(run_dir)
    assert opened.to_dataframe().equals(result.to_dataframe())
    assert [s.architecture for s in opened.front] == [s.architecture for s in result.front]
    assert opened.best() == result.best()
    with pytest.raises(ValueError, match=r"Of a run that was opened, `nasray export .* ARCH"):
        opened.export()
    path = run_dir / "run.json"
    record = json.loads(path.read_text())
    assert record["status"] == "done"
    path.write_text(json.dumps(record | {"status": "interrupted"}))
    assert main(["resume", str(run_dir)]) == 2
    assert "Call it again with the same arguments, this run_dir and resume=True" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "magic"}, f"`strategy` must be one of {', '.join(STRATEGIES)}"),
        ({"objectives": ["accuracy"]}, 'must read like "maximize accuracy"'),
        ({"constraints": ["cost<5x"]}, "A constraint must read like"),
        ({"evaluator": 3}, "`evaluator` must be a Training or a function, got int"),
        ({"strategy": "surrogate"}, "`known` must be given for the strategy surrogate"),
        ({"known": figures}, "`known` must be left out with the strategy evolution"),
        ({"evaluations": 0}, "`num_evaluations` must be at least 1"),
        ({"resume": True, "run_dir": None}, "`run_dir` must name the run to resume"),
        ({"place": "Atlantis"}, "`place` must be a country"),
    ],
)
def test_what_does_not_fit_is_told(options, message, tmp_path):
    given = {"evaluator": figures, "objectives": ["maximize quality", "minimize cost"], "run_dir": tmp_path / "run"}
    with pytest.raises(ValueError, match=message):
        search(ElasticSpace(Net), **(given | options))
    assert not (tmp_path / "run").exists()


def test_metrics_that_a_training_lacks_are_told(tmp_path):
    data = load_image_data(None, max_train=60)
    space = ChainSpace(num_classes=10, in_channels=1, resolution=8)
    with pytest.raises(ValueError, match=r"`shares_weights` must be left out for the space chain.*needs an Elastic"):
        search(space, Training(data, shares_weights=True), objectives=["maximize accuracy", "minimize macs"])
    with pytest.raises(ValueError, match="must be one of accuracy, inference_time_s"):
        search(space, Training(data), objectives=["maximize beauty", "minimize macs"], run_dir=tmp_path / "run")
