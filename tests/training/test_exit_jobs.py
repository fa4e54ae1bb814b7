import json
import pickle

import numpy as np
import pytest
import torch

from nasray.data import Batches, load_image_data
from nasray.models.anytime_adaptive import adaptive_predict
from nasray.models.anytime_policies import thresholds_from_json
from nasray.models.msdnet_plan import MSDNetPlan, MSDNetSettings
from nasray.models.multi_scale_network import DerivedCell
from nasray.spaces.multi_scale import MultiScaleSpace
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.spaces.multi_scale_plan import MultiScalePlan
from nasray.training.exit_jobs import ExitJob, build_exits, load_exit_weights, metric_names, num_exits, with_cutout
from nasray.training.jobs import Place
from nasray.tune.ms_ranas_presets import sgd_recipe

RECIPE = sgd_recipe(epochs=2, batch_size=128, learning_rate=0.1)


@pytest.fixture(scope="module")
def digits():
    return load_image_data(None, max_train=400)


def multi_scale_plan(**options):
    layout = {"num_nodes": 2, "scales": 2, "layers": 4, "exits": 2, "channels": 4, "in_channels": 1, "resolution": 8}
    settings = MultiScaleSettings(**(layout | options))
    space = MultiScaleSpace(settings)
    return space.plan(space.random(np.random.default_rng(0)))


def msdnet_plan():
    return MSDNetPlan(MSDNetSettings(blocks=2, base=4, growth=2, channels=4, in_channels=1, resolution=8))


def trained(job, data, epochs=None):
    running = job.start(data, Place())
    for _ in range(epochs or job.training.epochs):
        running.run_epoch()
    return running


@pytest.mark.parametrize("plan", [multi_scale_plan(), msdnet_plan()], ids=["multi-scale", "msdnet"])
def test_a_resumed_training_is_the_same_as_one_without_a_break(plan, digits):
    is_multi_scale = isinstance(plan, MultiScalePlan)
    job = pickle.loads(pickle.dumps(ExitJob(plan=plan, training=RECIPE, cutout_px=2, drop_path=0.3 * is_multi_scale)))
    whole = trained(job, digits)
    first = trained(job, digits, epochs=1)
    second = job.start(digits, Place())
    second.load_state_dict(first.state_dict())
    second.run_epoch()
    assert second.is_finished
    for name, value in whole.weights().items():
        np.testing.assert_array_equal(second.weights()[name], value, err_msg=name)


@pytest.mark.parametrize("plan", [multi_scale_plan(), msdnet_plan()], ids=["multi-scale", "msdnet"])
def test_final_metrics_are_those_of_the_exits_on_held_out_and_test_images(plan, digits):
    job = ExitJob(plan=plan, training=RECIPE)
    running = trained(job, digits)
    metrics = job.final_metrics(running, digits, Place())
    assert list(metrics) == metric_names(plan)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    network = load_exit_weights(plan, running.weights())
    for split, images in (("holdout", digits.holdout), ("test", digits.test)):
        images_BCHW, labels = next(iter(Batches(images, digits, batch_size=len(images))))
        for exit in range(1, num_exits(plan) + 1):
            right = network.predict(images_BCHW, exit=exit).argmax(1) == labels
            accuracy = metrics[f"{split}_accuracy_exit_{exit}"]
            assert accuracy == pytest.approx(right.double().mean().item(), abs=1.01 / len(labels))
    assert metrics["test_accuracy"] == metrics[f"test_accuracy_exit_{num_exits(plan)}"]


def test_thresholds_of_a_job_do_on_its_network_what_it_says(digits):
    """The network itself, run with the thresholds, computes the deeper exits for those images alone that stay."""
    plan = multi_scale_plan()
    job = ExitJob(plan=plan, training=RECIPE)
    running = trained(job, digits)
    adaptive = job.final_metrics(running, digits, Place())["adaptive"]
    first, last = plan.exit_macs(1), plan.exit_macs(2)
    assert [policy["budget_macs"] for policy in adaptive] == pytest.approx(np.linspace(first, last, 6)[1:])
    network = load_exit_weights(plan, running.weights())
    for policy in adaptive:
        assert policy["holdout_mean_macs"] <= policy["budget_macs"]
        for split, images in (("holdout", digits.holdout), ("test", digits.test)):
            images_BCHW, labels = next(iter(Batches(images, digits, batch_size=len(images))))
            result = adaptive_predict(network, images_BCHW, thresholds_from_json(policy["thresholds"]))
            right = (result.logits_BK.argmax(1) == labels).double().mean().item()
            assert policy[f"{split}_accuracy"] == pytest.approx(right, abs=2.01 / len(labels))
            left = (result.exit_B == 1).double().mean().item()
            assert policy[f"{split}_shares"] == pytest.approx([left, 1 - left], abs=2.01 / len(labels))
            shares = policy[f"{split}_shares"]
            mean = sum(share * plan.cumulative_macs(exit) for exit, share in enumerate(shares, start=1))
            assert policy[f"{split}_mean_macs"] == pytest.approx(mean)
    assert adaptive[0]["test_mean_macs"] < adaptive[-1]["test_mean_macs"]


def test_a_network_with_one_exit_has_nothing_to_leave_early_from(digits):
    job = ExitJob(plan=multi_scale_plan(scales=1, exits=1), training=sgd_recipe(epochs=1, batch_size=128))
    assert job.final_metrics(trained(job, digits), digits, Place())["adaptive"] == []


def test_drop_path_rises_linearly_from_zero(digits):
    job = ExitJob(plan=multi_scale_plan(), training=sgd_recipe(epochs=4, batch_size=128), drop_path=0.2)
    running = job.start(digits, Place())
    found = []
    for _ in range(4):
        running.run_epoch()
        cell = next(part for part in running.trainer.model.parts.values() if isinstance(part, DerivedCell))
        found.append(cell.drop_probability)
    assert found == pytest.approx([0.0, 0.05, 0.1, 0.15])


def test_drop_path_changes_a_training_from_its_second_epoch_on(digits):
    with_it, without = (
        trained(ExitJob(plan=multi_scale_plan(), training=RECIPE, drop_path=probability), digits, epochs=1)
        for probability in (0.5, 0.0)
    )
    name = "parts.exit_1.linear.weight"
    np.testing.assert_array_equal(with_it.weights()[name], without.weights()[name])
    assert with_it.run_epoch()["loss"] != without.run_epoch()["loss"]


def test_an_auxiliary_head_is_trained_and_left_behind(digits):
    data = load_image_data(None, max_train=400, resolution=32)
    plan = multi_scale_plan(scales=1, exits=1, layers=3, resolution=32, has_auxiliary=True)
    job = ExitJob(plan=plan, training=sgd_recipe(epochs=1, batch_size=128))
    running = job.start(data, Place())
    before = running.weights()
    running.run_epoch()
    after = running.weights()
    head = next(name for name in after if name.startswith("parts.auxiliary.") and name.endswith("weight"))
    assert not np.array_equal(before[head], after[head])
    network = load_exit_weights(plan, after)
    assert "auxiliary" not in network.parts
    kept = network.state_dict()
    assert {f"parts.{part}" for part in network.parts} == {".".join(name.split(".")[:2]) for name in kept}
    for name, value in kept.items():
        np.testing.assert_array_equal(value.numpy(), after[name], err_msg=name)


def test_cutout_blackens_squares_of_training_images_alone(digits):
    cut = with_cutout(digits, 4)
    options = {"batch_size": 64, "seed": 3}
    train, cut_train = (next(iter(Batches(data.train, data, train=True, **options)))[0] for data in (digits, cut))
    black = (0 - digits.mean[0]) / digits.std[0]
    is_changed = train != cut_train
    assert is_changed.any()
    torch.testing.assert_close(cut_train[is_changed], torch.full_like(cut_train[is_changed], black))
    test, cut_test = (next(iter(Batches(data.test, data, **options)))[0] for data in (digits, cut))
    assert torch.equal(test, cut_test)


@pytest.mark.parametrize("plan", [multi_scale_plan(), msdnet_plan()], ids=["multi-scale", "msdnet"])
def test_weights_of_numpy_arrays_are_copied(plan):
    weights = {name: value.numpy() for name, value in build_exits(plan).state_dict().items()}
    kept = {name: value.copy() for name, value in weights.items()}
    network = load_exit_weights(plan, weights)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    for name, value in weights.items():
        np.testing.assert_array_equal(value, kept[name], err_msg=name)


@pytest.mark.parametrize(
    ("plan", "drop"), [(multi_scale_plan(), 1.0), (multi_scale_plan(), -0.1), (msdnet_plan(), 0.2)]
)
def test_impossible_drop_path_is_refused(plan, drop):
    with pytest.raises(ValueError, match="`drop_path` must be"):
        ExitJob(plan=plan, training=RECIPE, drop_path=drop)
