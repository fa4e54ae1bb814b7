import pytest

from nasray.hardware.device import DeviceFingerprint
from nasray.hardware.layer_key import required_keys
from nasray.hardware.lookup_table import LatencyTable
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import MobileBlock, classifier_block, pool_block, stem_block
from nasray.spaces.network_spec import NetworkSpec


@pytest.fixture(scope="session")
def tiny_space() -> MobileSpace:
    """Stem, a residual block with squeeze-and-excitation, a strided block, pool: few enough networks to list."""
    rows = (MobileBlock(4, 5, 1, "relu", 8, 4, 4), MobileBlock(4, 3, 2, "hard_swish", 6, 8, 0))
    blocks = (
        stem_block(filters=4, stride=1, limit=2, activation="relu"),
        *(row.block(f"b{index:02d}", depthwise_filters=4) for index, row in enumerate(rows, start=2)),
        pool_block(),
        classifier_block(3, dropout=0.0),
    )
    return MobileSpace(NetworkSpec(name="tiny", blocks=blocks, in_channels=2, resolution=4, num_widths=3))


@pytest.fixture
def even_table(tiny_space: MobileSpace) -> LatencyTable:
    """A table in which every layer of the tiny space takes 0.5 ms."""
    entries = dict.fromkeys(required_keys(tiny_space), 0.5)
    return LatencyTable(device=DeviceFingerprint.of("cpu"), batch_size=1, entries=entries)
