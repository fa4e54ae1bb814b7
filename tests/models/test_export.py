import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasray.architecture import Architecture
from nasray.models import export
from nasray.models.export import TOLERANCE, export_network, load_network
from nasray.models.plain import PlainNetwork
from nasray.models.stored_network import WEIGHTS_FILE
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import mobile_space

CARD = {"data": "digits", "accuracy": 0.91, "latency_ms": 1.25, "latency_device": "Pixel 1 | CPU", "search_time_s": 60}


def trained_network(space: MobileSpace, architecture: Architecture) -> PlainNetwork:
    """A network whose batch norms and logits are of the size that training leaves."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PlainNetwork(space.plan(architecture))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        logits_BK = network.eval()(images(space, 8))
        list(network.modules())[-1].weight.div_(logits_BK.std())
    return network.train()


def images(space: MobileSpace, count: int) -> Tensor:
    shape = (count, space.spec.in_channels, space.spec.resolution, space.spec.resolution)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def varied_architecture(space: MobileSpace) -> Architecture:
    """The first random one with a removed layer, a bypass around a strided layer, and squeeze-and-excitation."""
    for seed in range(1000):
        architecture = space.random(np.random.default_rng(seed))
        layers = list(space.plan(architecture).layers())
        if (
            any(layer.filters == 0 for layer in layers)
            and any(layer.spec.stride > 1 and layer.bypassed_channels and layer.filters for layer in layers)
            and any(layer.spec.kind == "squeeze_excite" for layer in layers)
        ):
            return architecture
    raise AssertionError("no such architecture")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobile-8", "mobile-32"])
def test_every_file_computes_what_the_network_computes(name: str, tmp_path: Path, capfd) -> None:
    pytest.importorskip("onnxruntime")
    space = mobile_space(name, num_classes=10)
    architecture = varied_architecture(space)
    network, folder = trained_network(space, architecture), tmp_path / "models" / architecture.arch_id
    report = export_network(network, architecture, folder, example_BCHW=images(space, 1), card=CARD)
    assert capfd.readouterr() == ("", "")
    assert network.training
    assert report.skipped == ()
    assert set(report.differences) == {"weights.safetensors", "model.pt2", "model.onnx"}
    assert max(report.differences.values()) <= TOLERANCE
    assert set(report.file_bytes) == {*report.differences, "architecture.json", "card.md"}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    x_BCHW = images(space, 5)
    expected_BK = network.eval()(x_BCHW)
    assert expected_BK.abs().max() > 0.1
    torch.testing.assert_close(load_network(folder)(x_BCHW), expected_BK)
    program = torch.export.load(folder / "model.pt2")
    torch.testing.assert_close(program.module()(x_BCHW), expected_BK, atol=1e-4, rtol=1e-4)


def test_export_of_the_smallest_network_and_without_onnx(tmp_path: Path) -> None:
    space = mobile_space("mobile-8", num_classes=10)
    network = trained_network(space, space.smallest())
    report = export_network(
        network, space.smallest(), tmp_path / "net", example_BCHW=images(space, 2), card={}, onnx=False
    )
    assert set(report.differences) == {"weights.safetensors", "model.pt2"}
    assert report.skipped == ()


def test_files_say_what_the_network_is(tmp_path: Path) -> None:
    space = mobile_space("mobile-8", num_classes=10, in_channels=1)
    architecture = space.largest()
    network, folder = trained_network(space, architecture), tmp_path / "net"
    export_network(network, architecture, folder, example_BCHW=images(space, 1), card=CARD, onnx=False)
    value = json.loads((folder / "architecture.json").read_text())
    assert Architecture.from_json(value["architecture"]) == architecture
    assert (value["in_channels"], value["resolution"], value["num_classes"]) == (1, 8, 10)
    assert sum(layer["macs"] for layer in value["layers"]) == value["macs"] == network.plan.macs
    card = (folder / "card.md").read_text()
    assert f"| Multiply-adds | {network.plan.macs:,} (convolutions and linear layers" in card
    assert f"| Parameters | {network.plan.parameters:,} |" in card
    assert "| Latency measured on | Pixel 1 \\| CPU |" in card
    assert "| Search | not recorded |" in card
    assert "model.onnx" not in card
    assert "load_network(folder)" in card
    files = [path.read_bytes() for path in folder.iterdir()]
    assert not any(str(Path(export.__file__).parent).encode() in content for content in files)


def test_missing_onnx_is_said_and_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    space = mobile_space("mobile-8", num_classes=10)
    network = trained_network(space, space.smallest())
    report = export_network(network, space.smallest(), tmp_path / "net", example_BCHW=images(space, 1), card={})
    assert report.skipped == ("ONNX skipped: install nasray[export] (missing: onnxscript)",)
    assert "model.onnx" not in report.file_bytes


@pytest.mark.parametrize("wrong", [1.0, float("nan")])
def test_a_file_that_disagrees_leaves_the_earlier_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    space = mobile_space("mobile-8", num_classes=10)
    network, folder = trained_network(space, space.smallest()), tmp_path / "net"
    settings = {"example_BCHW": images(space, 1), "card": {}, "onnx": False}
    export_network(network, space.smallest(), folder, **settings)
    before = (folder / "card.md").read_bytes()
    monkeypatch.setattr(export, "write_program", lambda program, path: lambda x_BCHW: network(x_BCHW) + wrong)
    network.eval()
    with pytest.raises(RuntimeError, match=r"model.pt2 must agree with the network within 0.0001, got a difference"):
        export_network(network, space.smallest(), folder, **settings)
    assert (folder / "card.md").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_an_earlier_export_is_replaced_but_nothing_else(tmp_path: Path) -> None:
    space = mobile_space("mobile-8", num_classes=10)
    network, folder = trained_network(space, space.smallest()), tmp_path / "net"
    settings = {"example_BCHW": images(space, 1), "card": {}, "onnx": False}
    export_network(network, space.smallest(), folder, **settings)
    (folder / "stale").touch()
    export_network(network, space.smallest(), folder, **settings)
    assert not (folder / "stale").exists()
    precious = tmp_path / "thesis.tex"
    precious.touch()
    with pytest.raises(
        ValueError, match=r"`folder` must be new, empty or an earlier export, got .*, which holds other"
    ):
        export_network(network, space.smallest(), tmp_path, **settings)
    assert precious.exists()


def test_export_refuses_arguments_that_do_not_fit(tmp_path: Path) -> None:
    space = mobile_space("mobile-8", num_classes=10)
    network = trained_network(space, space.smallest())
    with pytest.raises(ValueError, match="`architecture` must be what the network was built from"):
        export_network(network, space.largest(), tmp_path / "net", example_BCHW=images(space, 1), card={})
    with pytest.raises(ValueError, match=r"one image of shape \(3, 8, 8\), got shape \(1, 3, 9, 8\)"):
        export_network(network, space.smallest(), tmp_path / "net", example_BCHW=torch.zeros(1, 3, 9, 8), card={})
    with pytest.raises(ValueError, match="`card` must name `latency_device` with `latency_ms`"):
        export_network(
            network,
            space.smallest(),
            tmp_path / "net",
            example_BCHW=images(space, 1),
            card={"latency_ms": 1.0},
            onnx=False,
        )
    assert list(tmp_path.iterdir()) == []


def test_load_network_refuses_damaged_files(tmp_path: Path) -> None:
    space = mobile_space("mobile-8", num_classes=10)
    network, folder = trained_network(space, space.smallest()), tmp_path / "net"
    with pytest.raises(ValueError, match=r"architecture.json must describe an exported network, got: .*No such file"):
        load_network(folder)
    export_network(network, space.smallest(), folder, example_BCHW=images(space, 1), card={}, onnx=False)
    weights = folder / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"weights.safetensors must hold the weights of architecture.json, got"):
        load_network(folder)
    description = json.loads((folder / "architecture.json").read_text())
    (folder / "architecture.json").write_text(json.dumps({**description, "schema_version": 9}))
    with pytest.raises(ValueError, match="schema version 9, where 1 is known"):
        load_network(folder)
