import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small networks are fastest on one thread, and machines that run tests are shared."""
    import torch

    torch.set_num_threads(1)
