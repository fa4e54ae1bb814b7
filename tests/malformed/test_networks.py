"""Networks, weights, predictors and checkpoints on disk."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from contract import check
from damage import files, json_files, json_values, place

from nasray.hardware.cost_sample import CostSample
from nasray.hardware.front_check import CheckedNetwork, CostCheck
from nasray.hardware.predictor import CostPredictor
from nasray.models.anytime_export import _store, load_exits
from nasray.models.msdnet import MSDNet
from nasray.models.msdnet_plan import MSDNetPlan, MSDNetSettings
from nasray.models.multi_scale_network import MultiScaleNetwork
from nasray.models.plain import PlainNetwork
from nasray.models.stored_network import load_network, store_network
from nasray.spaces.cell import CellSpace
from nasray.spaces.genotype import Genotype
from nasray.spaces.mobile_networks import mobile_space
from nasray.spaces.multi_scale import MultiScaleSettings
from nasray.spaces.multi_scale_plan import MultiScalePlan
from nasray.tune.checkpoint_store import CheckpointStore
from nasray.tune.checkpoints import (
    PROGRESS,
    STATE,
    load_progress,
    load_state,
    load_weights,
    save_progress,
    save_state,
    save_weights,
)

ARCHITECTURE, WEIGHTS = "architecture.json", "weights.safetensors"


def plain(folder):
    space = mobile_space("mobile-8", num_classes=10, in_channels=1, resolution=8)
    store_network(PlainNetwork(space.plan(space.smallest())), space.smallest(), folder)


def multi_scale(folder):
    edges = [("sep_conv_3x3", 0), ("skip_connect", 1)] * 2
    settings = MultiScaleSettings(num_nodes=2, layers=3, channels=4, resolution=8, in_channels=1)
    _store(MultiScaleNetwork(MultiScalePlan(genotype=Genotype.of(edges, edges), settings=settings)), folder)


def msdnet(folder):
    settings = MSDNetSettings(blocks=2, base=2, step=1, channels=4, growth=2, scales=2, resolution=8, in_channels=1)
    _store(MSDNet(MSDNetPlan(settings)), folder)


KINDS = {"plain": (plain, load_network), "multi-scale": (multi_scale, load_exits), "MSDNet": (msdnet, load_exits)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [ARCHITECTURE, WEIGHTS])
def test_stored_networks(fresh, kind, name):
    store, load = KINDS[kind]
    store(valid := fresh("x").parent)
    content = (valid / name).read_bytes()

    def parse(case):
        folder = fresh("x").parent
        for other in {ARCHITECTURE, WEIGHTS} - {name}:
            shutil.copy(valid / other, folder)
        place(folder / name, case)
        return load(folder)

    def accept(found, case):
        assert not any(parameter.is_meta for parameter in found.state_dict().values())

    is_json = name == ARCHITECTURE
    cases = json_files(json.loads(content)) if is_json else files(content)
    check(f"{kind} network, {name}", cases, parse, examples=200 if is_json else 100, accept=accept)


def test_predictors(fresh):
    space, generator = CellSpace(resolution=8, num_cells=1, channels=4), np.random.default_rng(0)
    networks = [space.random(generator) for _ in range(24)]
    networks = list(dict.fromkeys(networks))
    values_N = np.array([float(space.plan(each).macs + 1e5) for each in networks])
    sample = CostSample(space="cell", architectures=tuple(networks), values_N=values_N, unit="ms", device="x")
    asked = networks[:2]
    for kind in ("linear", "gaussian_process"):
        CostPredictor.fit(space, sample, kind=kind).save(path := fresh("p.json"))

        def accept(found, case):
            with np.errstate(all="ignore"):
                predicted = found.predict(asked)
            assert predicted.shape == (2,) and not (predicted <= 0).any()
            found.save(again := fresh("again.json"))
            one, other = (json.loads(text, parse_int=float) for text in (again.read_text(), case))
            differing = {
                name: (one.get(name), other.get(name)) for name in {*one, *other} if one.get(name) != other.get(name)
            }
            assert not differing

        check(
            f"{kind.replace('_', ' ')} predictor",
            json_files(json.loads(path.read_text())),
            lambda case: CostPredictor.load(place(fresh("p.json"), case), space),
            examples=250,
            accept=accept,
        )


def test_cost_checks():
    networks = [
        CheckedNetwork(arch_id=f"a{n}", label="x", predicted=n, measured=n + 1.0, spread=0.1) for n in (1.0, 2.0)
    ]
    document = CostCheck.of(networks, metric="latency_ms", unit="ms", device="cpu").to_json()

    def accept(found, case):
        assert json.loads(json.dumps(found.to_json()), parse_int=float) == json.loads(json.dumps(case), parse_int=float)
        assert all(0 < network.measured < math.inf for network in found.networks)

    cases = json_values(json.loads(json.dumps(document))).filter(lambda case: isinstance(case, dict))
    check("measured front", cases, CostCheck.from_json, examples=300, accept=accept)


def test_checkpoints(fresh):
    """A checkpoint that is not whole is passed over when it is looked for, and refused when it is read."""
    save_state(valid := fresh("x").parent, {"epoch": 3, "model": {"w": torch.ones(3)}, "name": "x"})
    save_weights(valid, {"w": np.ones(3, dtype=np.float32)})
    save_progress(valid, {"strategy": {"a": 1}, "rows": [{"b": 2.0}]})
    for name, load in ((STATE, load_state), (WEIGHTS, load_weights), (PROGRESS, load_progress)):

        def parse(case, name=name, load=load):
            storage = fresh("x").parent
            folder = storage / "search-1" / "trial" / "checkpoint_000001"
            folder.mkdir(parents=True)
            for other in {STATE, WEIGHTS} - {name} if name != PROGRESS else ():
                shutil.copy(valid / other, folder)
            place(folder / name, case)
            CheckpointStore.local(storage).newest("search", "trial")
            return load(folder)

        check(
            f"checkpoint, {name}",
            files((valid / name).read_bytes()),
            parse,
            examples=200,
            accept=lambda found, case: list(found.items()),
        )
