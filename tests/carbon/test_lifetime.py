import itertools

import pytest

from nasray.carbon.lifetime import BASELINE_MACS, BreakEven, CostPerUse, break_even, lifetime_cost


def per_use(cost, network="net", quality="measured"):
    return CostPerUse(network=network, cost=cost, quality=quality)


@pytest.mark.parametrize(("search", "found", "baseline"), [(100.0, 1.0, 4.0), (99.0, 1.0, 4.0), (0.5, 1.0, 4.0)])
def test_break_even_is_the_first_use_at_which_the_total_is_not_higher(search, found, baseline) -> None:
    result = break_even(search, per_use(found), per_use(baseline))
    totals = ((n, lifetime_cost(search, per_inference=found, num_inferences=n)) for n in itertools.count())
    first = next(n for n, total in totals if total <= lifetime_cost(0, per_inference=baseline, num_inferences=n))
    assert (result.outcome, result.uses) == ("after", first)


@pytest.mark.parametrize(
    ("search", "found", "baseline", "outcome", "uses"),
    [
        (100.0, 4.0, 4.0, "never", None),
        (100.0, 5.0, 4.0, "never", None),
        (0.0, 5.0, 4.0, "never", None),
        (0.0, 1.0, 4.0, "at once", 0),
        (0.0, 4.0, 4.0, "at once", 0),
    ],
)
def test_never_and_at_once(search, found, baseline, outcome, uses) -> None:
    result = break_even(search, per_use(found), per_use(baseline))
    assert (result.outcome, result.uses) == (outcome, uses)


def test_baselines_are_estimated_from_their_macs() -> None:
    assert BASELINE_MACS == {"ResNet-50": 4_089_180_000, "MobileNetV3-Large": 216_590_000}
    resnet = CostPerUse.of_baseline("ResNet-50", 2e-12)
    assert (resnet.cost, resnet.quality) == (pytest.approx(8.17836e-3), "estimated")
    with pytest.raises(ValueError, match="`network` must be one of ResNet-50, MobileNetV3-Large, got 'VGG'"):
        CostPerUse.of_baseline("VGG", 1e-12)


def test_sentences() -> None:
    found, resnet = per_use(0.002, "mine"), per_use(0.010, "ResNet-50")
    assert break_even(8e6, found, resnet).describe() == (
        "The search for mine (8 MJ) has paid for itself after 1,000,000,000 inferences: it saves 8 mJ per inference "
        "against ResNet-50."
    )
    estimated = CostPerUse.of_baseline("ResNet-50", 1e-11)
    assert "saves an estimated 38.9 mJ per inference" in break_even(8e6, found, estimated).describe()
    assert break_even(8e6, resnet, found).describe() == (
        "The search for ResNet-50 never pays for itself: it costs 8 mJ per inference more than mine."
    )
    assert break_even(1, found, found).describe() == (
        "The search for mine never pays for itself: it costs as much as mine."
    )
    assert "at once" in break_even(0, found, resnet).describe()
    one = break_even(500.0, per_use(1000.0, "mine"), per_use(64_637.0, "ResNet-50"), use="training", unit="g")
    assert one.uses == 1
    assert "(500 g) has paid for itself after 1 training: it saves 63.6 kg per training" in one.describe()


def test_lifetime_adds_search_inferences_and_trainings() -> None:
    total = lifetime_cost(10, per_inference=0.5, num_inferences=100, per_training=20, num_trainings=3)
    assert total == 10 + 50 + 60


def test_a_result_keeps_what_it_was_computed_from() -> None:
    result = break_even(10, per_use(1), per_use(2), use="training", unit="g")
    assert isinstance(result, BreakEven)
    assert (result.search_cost, result.use, result.unit, result.uses) == (10, "training", "g", 10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: break_even(-1, per_use(1), per_use(2)), "`search_cost` must be"),
        (lambda: break_even(float("nan"), per_use(1), per_use(2)), "`search_cost` must be"),
        (lambda: per_use(-1), "`cost` must be"),
        (lambda: per_use(1, quality="guessed"), "`quality` must be measured or estimated"),
        (lambda: CostPerUse.from_macs("x", -1, 1), "`macs` must be"),
        (lambda: CostPerUse.from_macs("x", 1, -1), "`cost_per_mac` must be"),
        (lambda: lifetime_cost(1, num_inferences=float("inf")), "`num_inferences` must be"),
    ],
)
def test_wrong_figures_are_refused(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
