import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasray.models.anytime import IMAGE, AnytimeNetwork
from nasray.models.anytime_adaptive import adaptive_predict
from nasray.models.anytime_thresholds import calibrate, exits_taken
from nasray.training.exit_evaluation import evaluate_exits
from nasray.training.trainer import DivergedError


def build():
    torch.manual_seed(0)
    parts = {"exit_1": nn.Linear(4, 3), "exit_2": nn.Linear(4, 3)}
    return AnytimeNetwork(parts, dict.fromkeys(parts, (IMAGE,)), list(parts)).eval()


def split(count):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 4, generator=generator), torch.randint(3, (count,), generator=generator)


def test_every_exit_is_evaluated_on_every_image():
    network, (images, labels) = build(), split(50)
    found = evaluate_exits(network, zip(images.split(16), labels.split(16), strict=True))
    assert found.num_images == 50
    for exit in (1, 2):
        logits = network.predict(images, exit=exit)
        assert found.accuracies[exit - 1] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
        assert found.loss_E[exit - 1] == pytest.approx(float(F.cross_entropy(logits, labels)))
        np.testing.assert_allclose(found.confidence_EN[exit - 1], logits.softmax(1).amax(1), rtol=1e-5)


def test_calibrated_thresholds_do_on_the_network_what_they_do_on_the_evaluation():
    network, (images, labels) = build(), split(200)
    found = evaluate_exits(network, [(images, labels)])
    policy = calibrate(found.confidence_EN, [10.0, 30.0], budget_macs=18.0)
    exits_N = exits_taken(found.confidence_EN, policy.thresholds)
    result = adaptive_predict(network, images, policy.thresholds)
    np.testing.assert_array_equal(result.exit_B, exits_N)
    assert 0.5 < policy.shares[0] < 0.7
    accuracy = float((result.logits_BK.argmax(1) == labels).float().mean())
    assert found.accuracy_when_leaving(exits_N) == pytest.approx(accuracy)
    assert found.accuracy_when_leaving(np.ones(200, dtype=int)) == pytest.approx(found.accuracies[0])


def test_an_exit_whose_outputs_are_no_numbers_has_diverged():
    network, (images, labels) = build(), split(50)
    with torch.no_grad():
        network.parts["exit_2"].weight[0, 0] = torch.nan
    with pytest.raises(DivergedError, match="outputs are not numbers"):
        evaluate_exits(network, [(images, labels)])


def test_a_split_without_images_is_refused():
    with pytest.raises(ValueError, match="`batches` must hold at least one image to evaluate on, got none"):
        evaluate_exits(build(), [])
