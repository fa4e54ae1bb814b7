import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nasray.data import Batches, load_image_data
from nasray.hardware.counter import count_macs
from nasray.models.chain_network import ACTIVATIONS, ChainNetwork, build_layer
from nasray.spaces.chain import ChainSpace
from nasray.spaces.chain_plan import ChainLayer
from nasray.spaces.chain_slot import FEATURE_GENES, ChainSlot
from nasray.training.config import TrainingConfig
from nasray.training.evaluate import evaluate
from nasray.training.losses import cross_entropy
from nasray.training.trainer import Trainer

DIGITS = ChainSpace(num_classes=10, in_channels=1, resolution=8)


def feasible_plans(space, count, seed=0):
    """Plans of random genomes, half of them with every gene uniform."""
    generator = np.random.default_rng(seed)
    while count:
        uniform = {name: options[generator.integers(len(options))] for name, options in space.choices.items()}
        plan = space.plan(space.canonical(uniform) if count % 2 else space.random(generator))
        if plan.is_feasible:
            count -= 1
            yield plan


def meta_network(plan):
    with torch.device("meta"):
        return ChainNetwork(plan)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize(("channels", "resolution", "count"), [(3, 32, 70), (1, 8, 60), (2, 5, 20)])
def test_counts_and_shapes_equal_those_of_torch(batch_norm, channels, resolution, count):
    space = ChainSpace(num_classes=7, in_channels=channels, resolution=resolution, batch_norm=batch_norm)
    kinds = set()
    for plan in feasible_plans(space, count):
        network = meta_network(plan).eval()
        assert sum(p.numel() for p in network.parameters()) == plan.parameters
        assert count_macs(network, (1, channels, resolution, resolution)) == plan.macs
        x = torch.empty(3, channels, resolution, resolution, device="meta")
        for layer, module in zip(plan.layers, (*network.features, *network.head), strict=True):
            x = x.flatten(1) if len(layer.in_shape) == 1 else x
            assert x.shape[1:] == layer.in_shape
            x = module(x)
            assert x.shape[1:] == layer.out_shape
            kinds.add(layer.kind)
        assert x.shape == (3, 7)
    assert kinds == {"conv", "inception", "pool", "activation", "dropout", "linear"}


@pytest.mark.parametrize("batch_norm", [True, False])
def test_outputs_and_gradients_are_finite(batch_norm):
    space = ChainSpace(num_classes=10, in_channels=1, resolution=8, batch_norm=batch_norm, max_macs=5_000_000)
    torch.manual_seed(0)
    images, labels = torch.randn(4, 1, 8, 8), torch.arange(4)
    for plan in feasible_plans(space, 40, seed=1):
        network = ChainNetwork(plan)
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        assert torch.equal(network.eval()(images), network(images))


def test_every_activation_has_a_module():
    assert tuple(ACTIVATIONS) == FEATURE_GENES["activation"]


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_signals_keep_their_size_without_batch_norm(activation):
    """Ten linear layers neither drown nor blow up what comes in."""
    space = ChainSpace(num_classes=10, in_channels=1, resolution=16, num_head_slots=20, batch_norm=False)
    genes = dict(space.smallest().choices)
    for index, number in enumerate(space.head_slots):
        genes |= (
            {f"{number}.kind": "activation", f"{number}.activation": activation}
            if index % 2
            else {
                f"{number}.kind": "linear",
                f"{number}.units": 256,
            }
        )
    torch.manual_seed(0)
    network = ChainNetwork(space.plan(space.canonical(genes))).eval()
    with torch.no_grad():
        logits = network(torch.randn(64, 1, 16, 16))
    assert 0.2 < logits.square().mean().sqrt() < 5


@torch.no_grad()
def test_inception_equals_its_branches_by_hand():
    torch.manual_seed(0)
    plan = ChainLayer(name="00", slot=ChainSlot(kind="inception", filters=24), in_shape=(5, 6, 3))
    module, x = build_layer(plan), torch.randn(2, 5, 6, 3)
    state = module.state_dict()

    def conv(name, x):
        weight = state[f"{name}.conv.weight"]
        return F.conv2d(x, weight, state[f"{name}.conv.bias"], padding=weight.shape[-1] // 2).relu()

    by_hand = [
        conv("one.0", x),
        conv("three.1.0", conv("three.0.0", x)),
        conv("five.1.0", conv("five.0.0", x)),
        conv("pool.1.0", F.max_pool2d(x, 3, 1, 1)),
    ]
    assert torch.allclose(module(x), torch.cat(by_hand, 1), atol=1e-6)


def test_infeasible_plan_is_not_built():
    space = ChainSpace(num_classes=10, in_channels=1, resolution=8, max_parameters=100)
    with pytest.raises(ValueError, match=r"must be feasible, got .* over `max_parameters`"):
        ChainNetwork(space.plan(space.smallest()))


def test_layer_that_is_off_is_not_built():
    with pytest.raises(ValueError, match="must be on"):
        build_layer(ChainLayer(name="03", slot=ChainSlot(), in_shape=(1, 8, 8)))


def accuracy_after_training(plan, data, epochs):
    torch.manual_seed(0)
    network = ChainNetwork(plan)
    config = TrainingConfig(epochs=epochs, batch_size=32, learning_rate=0.1, ema_decay=0.9)
    trainer = Trainer(network, config, steps_per_epoch=-(-len(data.train) // 32), backward=cross_entropy(network))
    for epoch in range(epochs):
        trainer.run_epoch(Batches(data.train, data, batch_size=32, train=True, epoch=epoch))
    return evaluate(trainer.evaluated.eval(), Batches(data.test, data, batch_size=256))["accuracy"]


@pytest.mark.slow
def test_chain_learns_digits():
    genes = dict(DIGITS.smallest().choices)
    layers = ["conv", "activation", "inception", "pool", "conv", "activation"]
    genes |= {f"{index:02d}.kind": kind for index, kind in enumerate(layers)}
    genes |= {f"{index:02d}.{gene}": 3 for index in (0, 4) for gene in ("kernel_height", "kernel_width")}
    genes |= {f"{index:02d}.stride": 1 for index in (0, 4)}
    genes |= {f"{index:02d}.filters": 32 for index in (0, 2, 4)}
    genes |= {"03.kernel_height": 2, "03.kernel_width": 2, "03.stride": 2}
    genes |= {"16.kind": "linear", "16.units": 64, "17.kind": "activation"}
    assert accuracy_after_training(DIGITS.plan(DIGITS.canonical(genes)), load_image_data(None), 5) > 0.9


@pytest.mark.slow
def test_some_random_chains_learn_digits():
    space = ChainSpace(num_classes=10, in_channels=1, resolution=8, max_macs=2_000_000)
    data = load_image_data(None)
    generator = np.random.default_rng(0)
    plans = [plan for plan in (space.plan(space.random(generator)) for _ in range(16)) if plan.is_feasible][:10]
    accuracies = sorted(accuracy_after_training(plan, data, 6) for plan in plans)
    assert accuracies[-2] > 0.8
