import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from nasray.models import anytime_export
from nasray.models.anytime_budget import ExitCosts
from nasray.models.anytime_export import export_exits, load_exits, load_predictor
from nasray.models.anytime_thresholds import ExitPolicy
from nasray.models.export import TOLERANCE
from nasray.models.msdnet import MSDNet
from nasray.models.msdnet_plan import MSDNetPlan, MSDNetSettings
from nasray.models.multi_scale_network import MultiScaleNetwork
from nasray.spaces.genotype import Genotype
from nasray.spaces.multi_scale import MultiScaleSettings
from nasray.spaces.multi_scale_plan import MultiScalePlan

EDGES = [("sep_conv_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 0), ("dil_conv_3x3", 2)]
SETTINGS = MultiScaleSettings(num_nodes=2, scales=2, layers=3, exits=2, channels=4, in_channels=1, resolution=8)


def trained_looking(network):
    torch.manual_seed(0)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network


def multi_scale(settings=SETTINGS):
    return trained_looking(MultiScaleNetwork(MultiScalePlan(genotype=Genotype.of(EDGES, EDGES), settings=settings)))


def msdnet():
    settings = MSDNetSettings(blocks=2, base=2, step=1, channels=4, growth=2, in_channels=1, resolution=8)
    return trained_looking(MSDNet(MSDNetPlan(settings)))


IMAGES = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
def test_every_file_computes_what_its_exit_computes(tmp_path, capfd):
    onnxruntime = pytest.importorskip("onnxruntime")
    network, folder = multi_scale(), tmp_path / "net"
    report = export_exits(network, folder, example_BCHW=IMAGES, card={"Data": "digits | small"})
    assert capfd.readouterr() == ("", "")
    assert network.training and report.skipped == ()
    files = {"weights.safetensors", "exit_1.pt2", "exit_1.onnx", "exit_2.pt2", "exit_2.onnx"}
    assert set(report.differences) == files
    assert max(report.differences.values()) <= TOLERANCE
    assert set(report.file_bytes) == files | {"architecture.json", "card.md", "exits.json"}
    network.eval()
    for exit in (1, 2):
        expected = network.predict(IMAGES, exit=exit)
        program = torch.export.load(folder / f"exit_{exit}.pt2")
        torch.testing.assert_close(program.module()(IMAGES), expected, atol=1e-4, rtol=1e-4)
        assert sum(weight.numel() for weight in program.parameters()) == network.plan.exit_parameters(exit)
        session = onnxruntime.InferenceSession(folder / f"exit_{exit}.onnx")
        (found,) = session.run(None, {"image": IMAGES.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)
    assert report.file_bytes["exit_1.onnx"] < report.file_bytes["exit_2.onnx"]
    card = (folder / "card.md").read_text()
    assert "| Data | digits \\| small |" in card
    assert f"| 1 | {network.plan.exit_macs(1):,} | {network.plan.exit_parameters(1):,} |" in card


@pytest.mark.parametrize("build", [multi_scale, msdnet])
def test_stored_networks_come_back(build, tmp_path):
    network = build().eval()
    report = export_exits(network, tmp_path / "net", example_BCHW=IMAGES, card={}, onnx=False)
    assert set(report.differences) == {"weights.safetensors", "exit_1.pt2", "exit_2.pt2"}
    loaded = load_exits(tmp_path / "net")
    assert type(loaded) is type(network) and loaded.plan == network.plan and not loaded.training
    for found, expected in zip(loaded.all_exits(IMAGES), network.all_exits(IMAGES), strict=True):
        torch.testing.assert_close(found, expected)


def test_costs_and_thresholds_go_with_the_export_and_predict_within_budgets(tmp_path, monkeypatch):
    monkeypatch.setattr(anytime_export, "write_program", lambda program, path: program.module())
    network, folder = multi_scale().eval(), tmp_path / "net"
    costs = ExitCosts(macs=(10, 20), cumulative_macs=(10, 25), parameters=(5, 6), latency_ms=(0.5, 0.75), energy_j=None)
    dear = ExitPolicy(thresholds=(math.inf, 0.0), shares=(0.0, 1.0), mean_macs=25.0)
    cheap = ExitPolicy(thresholds=(0.0, 0.0), shares=(1.0, 0.0), mean_macs=10.0)
    export_exits(network, folder, example_BCHW=IMAGES, card={}, costs=costs, policies=[dear, cheap], onnx=False)
    predictor = load_predictor(folder)
    assert predictor.costs == costs and predictor.policies == (cheap, dear)
    first, last = network.all_exits(IMAGES)
    torch.testing.assert_close(predictor.predict(IMAGES, budget_macs=19), first)
    for budget, exit, logits in ((10, 1, first), (24.9, 1, first), (25, 2, last)):
        found = predictor.predict_within_mean(IMAGES, mean_macs=budget)
        assert found.exit_B.tolist() == [exit] * len(IMAGES)
        torch.testing.assert_close(found.logits_BK, logits)
    card = (folder / "card.md").read_text()
    assert "predictor = load_predictor(folder)" in card and "predict_within_mean(images, mean_macs=10)" in card
    with pytest.raises(ValueError, match=r"`mean_macs` must be at least that of the cheapest policy, 10, got 9"):
        predictor.predict_within_mean(IMAGES, mean_macs=9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda value: value["policies"][0].update(thresholds=[0.5]),
            "thresholds that are not one for each of 2 exits",
        ),
        (lambda value: value["costs"].update(macs=[1]), "Every cost must have one value for each exit"),
        (lambda value: value.pop("policies"), "`policies` must be there"),
    ],
)
def test_damaged_costs_and_thresholds_are_refused(change, message, tmp_path, monkeypatch):
    monkeypatch.setattr(anytime_export, "write_program", lambda program, path: program.module())
    policy = ExitPolicy(thresholds=(0.5, 0.0), shares=(0.5, 0.5), mean_macs=15.0)
    export_exits(multi_scale(), tmp_path / "net", example_BCHW=IMAGES, card={}, policies=[policy], onnx=False)
    network = load_exits(tmp_path / "net")
    path = tmp_path / "net" / "exits.json"
    value = json.loads(path.read_text())
    assert value["costs"]["macs"] == [network.plan.exit_macs(exit) for exit in (1, 2)]  # known without being measured
    assert value["costs"]["latency_ms"] is None
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(ValueError, match=f"exits.json must hold costs and thresholds, got: .*{message}"):
        load_predictor(tmp_path / "net")


def test_a_file_that_disagrees_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(anytime_export, "write_program", lambda program, path: lambda x: torch.zeros(len(x), 10))
    with pytest.raises(RuntimeError, match=r"exit_1.pt2 must agree with the network within 0.0001, got a difference"):
        export_exits(multi_scale(), tmp_path / "net", example_BCHW=IMAGES, card={}, onnx=False)
    assert list(tmp_path.iterdir()) == []


def test_arguments_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"one image of shape \(1, 8, 8\), got shape \(1, 3, 8, 8\)"):
        export_exits(multi_scale(), tmp_path / "net", example_BCHW=torch.zeros(1, 3, 8, 8), card={})
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(
        ValueError, match=r"`folder` must be new, empty or an earlier export, got .*, which holds other"
    ):
        export_exits(multi_scale(), tmp_path, example_BCHW=IMAGES, card={})


def test_damaged_folders_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"architecture.json must describe a network with exits, got: .*No such file"):
        load_exits(tmp_path)
    monkeypatch.setattr(anytime_export, "write_program", lambda program, path: program.module())
    folder = tmp_path / "net"
    export_exits(multi_scale(), folder, example_BCHW=IMAGES, card={}, onnx=False)
    value = json.loads((folder / "architecture.json").read_text())
    for change, message in (
        ({"schema_version": 9}, "schema version 9, where 1 is known"),
        ({"family": "resnet"}, "family 'resnet', where multi_scale and msdnet are known"),
        ({"genotype": {}}, "A genotype must be a JSON object"),
        ({"settings": {"depth": 3}}, "`depth` must not be there"),
    ):
        (folder / "architecture.json").write_text(json.dumps({**value, **change}))
        with pytest.raises(ValueError, match=message):
            load_exits(folder)
    wider = json.loads(json.dumps(value))
    wider["settings"]["channels"] = replace(SETTINGS, channels=8).channels
    (folder / "architecture.json").write_text(json.dumps(wider))
    with pytest.raises(ValueError, match=r"weights.safetensors must hold the weights of architecture.json, got"):
        load_exits(folder)
