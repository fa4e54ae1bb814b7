"""Sub-networks on parallel threads train as they do one after the other."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from nasray.models.parallel_passes import run_passes
from nasray.models.supernet import Supernet
from nasray.spaces.mobile_networks import mobile_space
from nasray.training.losses import ordered_dropout

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def step(num_threads: int) -> dict[str, torch.Tensor]:
    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    supernet = Supernet(mobile_space("mobile-8", num_classes=10, in_channels=1)).train()
    backward = ordered_dropout(supernet, np.random.default_rng(0), num_subnets=8)
    images, labels = torch.randn(32, 1, 8, 8), torch.randint(10, (32,))
    loss = backward(images, labels, lambda loss: loss)
    gradients = {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}
    return {"loss": loss, **gradients, **dict(supernet.named_buffers())}


def test_two_threads_give_the_step_of_one() -> None:
    one, two = step(1), step(2)
    assert len(one) > 50
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)


def test_two_threads_give_the_same_bits_each_time() -> None:
    torch.testing.assert_close(step(2), step(2), rtol=0, atol=0)


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_results_are_merged_in_order(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    merged: list[int] = []
    run_passes(lambda item: item * item, merged.append, range(50), CPU)
    assert merged == [number * number for number in range(50)]
    assert torch.get_num_threads() == num_threads


def test_an_error_in_a_pass_comes_out() -> None:
    torch.set_num_threads(2)

    def run(item: int) -> int:
        if item == 3:
            raise RuntimeError("out of memory")
        return item

    with pytest.raises(RuntimeError, match="out of memory"):
        run_passes(run, lambda result: None, range(8), CPU)
