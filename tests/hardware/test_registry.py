import pickle

import pytest

from nasray.hardware.cost import CostValue
from nasray.hardware.lookup_table import LatencyTable
from nasray.hardware.registry import COSTS, make_cost
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import mobile_space


@pytest.mark.parametrize("name", COSTS)
def test_every_cost_keeps_the_contract(name: str, tiny_space: MobileSpace, even_table: LatencyTable) -> None:
    cost = pickle.loads(pickle.dumps(make_cost(name, tiny_space, table=even_table)))
    assert cost.name == name
    value = cost(tiny_space.largest())
    assert value.unit == cost.unit
    assert value.value > 0
    assert value.source
    assert cost(tiny_space.largest()) == value
    with pytest.raises(ValueError, match="must belong to space 'tiny', got 'mobile-8'"):
        cost(mobile_space("mobile-8", num_classes=10).largest())


def test_make_cost_lists_the_costs() -> None:
    with pytest.raises(ValueError, match="one of macs, parameters, memory, latency, measured-latency, got 'flops'"):
        make_cost("flops", mobile_space("mobile-8", num_classes=10))


def test_latency_needs_a_fitting_table(tiny_space: MobileSpace, even_table: LatencyTable) -> None:
    with pytest.raises(ValueError, match="`table` must be a LatencyTable for the cost 'latency', got None"):
        make_cost("latency", tiny_space)
    with pytest.raises(ValueError, match="`batch_size` must be the table's, 1, got 8"):
        make_cost("latency", tiny_space, table=even_table, batch_size=8)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_cost_value_must_be_a_finite_figure(value: float) -> None:
    with pytest.raises(ValueError, match="`value` must be finite and not negative"):
        CostValue(value=value, unit="ms", source="test", quality="measured")
