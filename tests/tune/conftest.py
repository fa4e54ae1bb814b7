import pytest

from nasray.data import load_image_data
from nasray.spaces.mobile_networks import mobile_8
from nasray.training.candidates import CandidateConfig, comparison_data
from nasray.training.config import TrainingConfig
from nasray.training.jobs import Place, SupernetJob
from nasray.tune.session import ClusterConfig, ray_session


@pytest.fixture(scope="session")
def cluster():
    """Ray on this machine, two processors."""
    with ray_session(ClusterConfig(num_cpus=2)):
        yield


@pytest.fixture(scope="session")
def digits():
    return load_image_data(None)


@pytest.fixture(scope="session")
def network():
    return mobile_8()


@pytest.fixture(scope="session")
def comparison(digits):
    return comparison_data(digits, CandidateConfig())


@pytest.fixture(scope="session")
def weights(digits, network):
    """A supernet after one epoch: what it knows does not matter here."""
    job = SupernetJob(network=network, training=TrainingConfig(epochs=1, batch_size=128))
    running = job.start(digits, Place())
    running.run_epoch()
    return running.weights()
