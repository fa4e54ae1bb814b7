import pickle

import numpy as np
import pandas as pd
import pytest

from nasray.hardware.cost import Cost, CostValue
from nasray.hardware.several_devices import TableCost, Weighted, WorstCase, device_metrics, reference_costs
from nasray.spaces.cell import CellSpace
from nasray.spaces.tabular import TabularSpace

SPACE = TabularSpace(
    pd.DataFrame({"arch": ["a,x", "a,y", "b,x"], "phone": [10.0, 20.0, 30.0], "server": [3.0, 1.0, 1.5]}),
    architecture="arch",
)
COSTS = {name: TableCost(SPACE, name, unit="ms") for name in ("phone", "server")}
FIRST, SECOND, THIRD = SPACE.architectures


class Guess(Cost):
    name, unit = "guess", "ms"

    def __call__(self, architecture):
        return CostValue(value=2.0, unit="ms", source="a guess", quality="predicted", spread=0.5)


def test_the_worst_device_counts_relative_to_the_reference():
    references = reference_costs(COSTS, FIRST)
    assert references == {"phone": 10.0, "server": 3.0}
    worst = WorstCase(COSTS, references)
    assert [worst(each).value for each in SPACE.architectures] == pytest.approx([1.0, 2.0, 3.0])
    assert "worst of phone, server: phone" in worst(SECOND).source
    assert (worst(SECOND).unit, worst(SECOND).quality, worst(SECOND).spread) == ("of the reference", "measured", None)


def test_weights_are_shares():
    weighted = Weighted(COSTS, {"phone": 10.0, "server": 1.0}, weights={"phone": 3.0, "server": 1.0})
    assert weighted(THIRD).value == pytest.approx(0.75 * 3 + 0.25 * 1.5)
    even = Weighted(COSTS, {"phone": 10.0, "server": 1.0})
    assert even(THIRD).value == pytest.approx(0.5 * 3 + 0.5 * 1.5)


def test_what_is_predicted_stays_predicted_with_its_spread():
    costs, references = {"a": Guess(), "b": Guess()}, {"a": 4.0, "b": 1.0}
    assert WorstCase(costs, references)(FIRST).spread == pytest.approx(0.5)
    value = Weighted(costs, references)(FIRST)
    assert (value.quality, value.spread) == ("predicted", pytest.approx(0.5 * 0.5 / 4 + 0.5 * 0.5))
    mixed = Weighted({**COSTS, "a": Guess()}, {"phone": 1.0, "server": 1.0, "a": 1.0})(FIRST)
    assert (mixed.quality, mixed.spread) == ("predicted", None)


def test_every_device_keeps_its_own_figure():
    metrics = pickle.loads(pickle.dumps(device_metrics(COSTS)))
    assert metrics(THIRD) == {"phone": 30.0, "server": 1.5}


def test_wrong_references_and_weights_are_refused():
    with pytest.raises(ValueError, match="`costs` must hold a device, got none"):
        WorstCase({}, {})
    with pytest.raises(ValueError, match="positive cost, got None for 'server'"):
        WorstCase(COSTS, {"phone": 1.0})
    with pytest.raises(ValueError, match=r"positive cost, got 0.0 for 'phone'"):
        Weighted(COSTS, {"phone": 0.0, "server": 1.0})
    for weights in ({"phone": 1.0}, {"phone": 0.0, "server": 0.0}, {"phone": -1.0, "server": 2.0}):
        with pytest.raises(ValueError, match="`weights` must give each of phone, server"):
            Weighted(COSTS, {"phone": 1.0, "server": 1.0}, weights=weights)
    with pytest.raises(ValueError, match="must be listed in the table"):
        COSTS["phone"](CellSpace().random(np.random.default_rng(0)))
