import numpy as np
import pytest
import torch

from nasray.data import load_image_data
from nasray.models.plain import PlainNetwork
from nasray.models.supernet import Supernet
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import mobile_8
from nasray.training.config import TrainingConfig
from nasray.training.evaluate import evaluate, evaluate_subnet, recalibrate
from nasray.training.jobs import NetworkJob, Place, SupernetJob, to_numpy
from nasray.training.losses import cross_entropy
from nasray.training.trainer import DivergedError, Trainer

SPACE = MobileSpace(mobile_8())


@pytest.fixture(scope="module")
def digits():
    return load_image_data(None)


def images(count=64):
    torch.manual_seed(0)
    return [(torch.randn(count, 1, 8, 8), torch.randint(10, (count,)))]


def test_rate_scales_with_the_batch_and_decays_by_stairs():
    config = TrainingConfig(epochs=10, batch_size=512)
    assert config.rate(0) == pytest.approx(0.032)
    assert config.rate(2.9) == config.rate(0)
    assert config.rate(3) == pytest.approx(0.032 * 0.963)
    assert config.rate(7) == pytest.approx(0.032 * 0.963**2)


def test_rate_warms_up_from_zero():
    config = TrainingConfig(epochs=10, batch_size=1024, warmup_epochs=2)
    assert config.rate(0) == 0
    assert config.rate(1) == pytest.approx(0.032)
    assert config.rate(2) == pytest.approx(0.064)


@pytest.mark.parametrize(
    "setting", [{"epochs": 0}, {"learning_rate": 0}, {"decay": 1.1}, {"ema_decay": 1}, {"survival": 0}]
)
def test_config_refuses_what_cannot_be(setting):
    with pytest.raises(ValueError, match="must be"):
        TrainingConfig(**{"epochs": 1, "batch_size": 8, **setting})


def test_training_that_diverges_says_so():
    network = PlainNetwork(SPACE.plan(SPACE.largest()))
    config = TrainingConfig(epochs=1, batch_size=64)
    trainer = Trainer(network, config, steps_per_epoch=1, backward=lambda x, y, scale: torch.tensor(float("nan")))
    with pytest.raises(DivergedError, match="Lower the learning rate"):
        trainer.run_epoch(images())


def test_averaged_weights_follow_the_trained_ones():
    network = PlainNetwork(SPACE.plan(SPACE.largest()))
    config = TrainingConfig(epochs=1, batch_size=64, ema_decay=0.9)
    trainer = Trainer(network, config, steps_per_epoch=60, backward=cross_entropy(network))
    trainer.run_epoch(images() * 60)
    averaged, trained = to_numpy(trainer.evaluated), to_numpy(network)
    name = "blocks.classifier.linear.linear.weight"
    assert not np.array_equal(averaged[name], trained[name])
    assert np.corrcoef(averaged[name].ravel(), trained[name].ravel())[0, 1] > 0.9


def test_without_averaging_the_trained_weights_are_evaluated():
    network = PlainNetwork(SPACE.plan(SPACE.largest()))
    config = TrainingConfig(epochs=1, batch_size=64, ema_decay=0.0)
    assert Trainer(network, config, steps_per_epoch=1, backward=cross_entropy(network)).evaluated is network


@pytest.mark.parametrize("ema_decay", [0.9998, 0.3])
def test_averaged_weights_forget_the_first_ones_early_on(ema_decay) -> None:
    """The weight falls from 100 by 1 in each step; the decay rises as (1 + n) / (10 + n) after n averages."""
    config = TrainingConfig(
        epochs=1,
        batch_size=1,
        reference_batch=1,
        learning_rate=1.0,
        optimizer="sgd",
        momentum=0.0,
        weight_decay=0.0,
        ema_decay=ema_decay,
        decay=1.0,
    )
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 100.0)

    def backward(images, labels, scale):
        loss = model(images).sum()
        scale(loss).backward()
        return loss.detach()

    trainer = Trainer(model, config, steps_per_epoch=40, backward=backward)
    trainer.run_epoch([(torch.ones(1, 1), torch.zeros(1))] * 40)
    average = 99.0  # the first average is the weight itself
    for n in range(1, 40):
        decay = min(ema_decay, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * (99.0 - n)
    assert model.weight.item() == pytest.approx(60.0)
    assert trainer.evaluated.weight.item() == pytest.approx(average, rel=1e-5)


def test_recalibration_gives_the_statistics_of_the_images():
    torch.manual_seed(0)
    network = Supernet(SPACE).extract(SPACE.largest()).eval()
    batch = images(256)
    recalibrate(network, batch)
    stem = network.blocks["stem"].conv
    with torch.no_grad():
        y = stem.conv(batch[0][0])
    assert torch.allclose(stem.norm.running_mean, y.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(stem.norm.running_var, y.var((0, 2, 3)), rtol=1e-4)
    assert not network.training
    assert not stem.norm.training


def test_batch_policy_equals_recalibration_on_the_same_images():
    torch.manual_seed(0)
    supernet = Supernet(SPACE)
    batch = images(256)
    first = evaluate_subnet(supernet.extract(SPACE.largest()), batch, policy="batch")
    second = evaluate_subnet(supernet.extract(SPACE.largest()), batch, policy="recalibrated", calibration=batch)
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-3)


def test_evaluation_refuses_nothing_to_evaluate_on():
    network = Supernet(SPACE).extract(SPACE.largest())
    with pytest.raises(ValueError, match="at least one image"):
        evaluate(network, [])
    with pytest.raises(ValueError, match="must hold training images"):
        evaluate_subnet(network, images(), policy="recalibrated")
    with pytest.raises(ValueError, match="must be one of running"):
        evaluate_subnet(network, images(), policy="other")


def test_network_learns_digits(digits):
    recipe = TrainingConfig(epochs=8, batch_size=64, ema_decay=0.9)
    job = NetworkJob(network=SPACE.spec, training=recipe, architecture=SPACE.largest())
    running = job.start(digits, Place())
    while not running.is_finished:
        running.run_epoch()
    assert job.final_metrics(running, digits, Place())["test_accuracy"] > 0.9


def test_stochastic_depth_changes_training_only():
    network = PlainNetwork(SPACE.plan(SPACE.largest()))
    network.set_survival(0.5)
    x = images(8)[0][0]
    assert torch.equal(network.eval()(x), network(x))
    network.set_survival(1.0)
    with pytest.raises(ValueError, match="must be in"):
        network.set_survival(0)


def test_network_job_needs_weights_to_inherit_or_distil():
    with pytest.raises(ValueError, match="must be given"):
        NetworkJob(
            network=SPACE.spec,
            training=TrainingConfig(epochs=1, batch_size=8),
            architecture=SPACE.largest(),
            inherits=True,
        )


def test_inherited_network_starts_from_the_supernet(digits):
    recipe = TrainingConfig(epochs=1, batch_size=64)
    weights = SupernetJob(network=SPACE.spec, training=recipe).start(digits, Place()).weights()
    job = NetworkJob(
        network=SPACE.spec,
        training=recipe,
        architecture=SPACE.largest(),
        supernet_weights=weights,
        inherits=True,
    )
    network = job.start(digits, Place()).trainer.model
    assert np.array_equal(to_numpy(network)["blocks.stem.conv.conv.weight"], weights["blocks.stem.conv.weight"])


def test_the_cosine_falls_from_the_first_rate_to_the_last() -> None:
    config = TrainingConfig(
        epochs=50,
        batch_size=32,
        reference_batch=64,
        learning_rate=0.025,
        last_rate=0.001,
        optimizer="sgd",
        schedule="cosine",
    )
    assert config.rate(0) == pytest.approx(0.0125)
    assert config.rate(25) == pytest.approx((0.0125 + 0.0005) / 2)
    assert config.rate(50) == pytest.approx(0.0005)


def test_sgd_moves_as_by_hand() -> None:
    config = TrainingConfig(
        epochs=1,
        batch_size=1,
        reference_batch=1,
        learning_rate=0.5,
        optimizer="sgd",
        momentum=0.9,
        weight_decay=0.1,
        ema_decay=0.0,
        decay=1.0,
    )
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)

    def backward(images, labels, scale):
        loss = model(images).sum()
        scale(loss).backward()
        return loss.detach()

    trainer = Trainer(model, config, steps_per_epoch=2, backward=backward)
    trainer.run_epoch([(torch.ones(1, 1), torch.zeros(1))] * 2)
    # First step: 1 - 0.5 x (1 + 0.1); second: velocity 0.9 x 1.1 + (1 + 0.1 x 0.45).
    assert model.weight.item() == pytest.approx(0.45 - 0.5 * (0.9 * 1.1 + 1 + 0.1 * 0.45))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optimizer": "adam"}, "`optimizer` must be rmsprop or sgd"),
        ({"schedule": "line"}, "`schedule` steps or cosine"),
        ({"last_rate": 1.0}, "`last_rate` must be from 0"),
        ({"reference_batch": 0}, "`reference_batch` must be positive"),
    ],
)
def test_wrong_recipes_are_refused(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(epochs=1, batch_size=1, **wrong)
