import pickle

import numpy as np
import pandas as pd
import pytest

from nasray.hardware.cost_sample import CostSample, spread_architectures
from nasray.hardware.features import features, plan_features, space_digest
from nasray.hardware.operations import operations
from nasray.hardware.predictor import CostPredictor, check_predictions
from nasray.hardware.predictor_models import MODELS, GaussianProcess, LinearModel, model_from_json
from nasray.spaces.cell import CellSpace
from nasray.spaces.chain import ChainSpace
from nasray.spaces.mobile_networks import mobile_space
from nasray.spaces.tabular import TabularSpace

MOBILE = mobile_space("mobile-8", num_classes=10)
CELL = CellSpace(num_cells=1, resolution=8)
CHAIN = ChainSpace(num_classes=4, in_channels=3, resolution=16)


def device_ms(space, architecture):
    """A device whose operations take what they compute, move and launch."""
    parts = operations(space.plan(architecture))
    return sum(2e-6 * each.macs + 1e-6 * each.elements + 0.01 for each in parts)


def measured(space, num, *, noise=0.0, seed=0):
    generator = np.random.default_rng(seed)
    found = spread_architectures(space, num, generator)
    values_N = np.array([device_ms(space, each) for each in found])
    values_N *= np.exp(noise * generator.standard_normal(len(found)))
    return CostSample(space=space.name, device="toy", unit="ms", architectures=found, values_N=values_N)


def split(sample, num):
    order = np.random.default_rng(1).permutation(len(sample.values_N))
    return sample.subset(order[:num]), sample.subset(order[num:])


@pytest.mark.parametrize("space", [MOBILE, CELL, CHAIN], ids=lambda space: space.name)
def test_a_sum_over_operations_is_learned_in_every_space(space):
    known, unknown = split(measured(space, 160), 120)
    predictor = CostPredictor.fit(space, known)
    check = check_predictions(predictor.predict(unknown.architectures), unknown.values_N)
    assert check.mean_absolute_percentage_error < 5
    assert check.kendall_tau > 0.95


@pytest.mark.parametrize("kind", MODELS)
def test_intervals_hold_the_stated_share_of_what_was_not_seen(kind):
    sample = measured(CELL, 400, noise=0.1)
    known, unknown = split(sample, 100)
    for coverage in (0.5, 0.9):
        predictor = CostPredictor.fit(CELL, known, kind=kind, coverage=coverage)
        ends_N2 = predictor.intervals(unknown.architectures)
        is_inside_N = (ends_N2[:, 0] <= unknown.values_N) & (unknown.values_N <= ends_N2[:, 1])
        assert is_inside_N.mean() == pytest.approx(coverage, abs=0.12)


@pytest.mark.parametrize(("num", "low", "high"), [(39, 7, 31), (40, 7, 32)])
def test_intervals_are_those_of_the_definition(num, low, high):
    known, unknown = split(measured(MOBILE, 46, noise=0.05), num)
    predictor = CostPredictor.fit(MOBILE, known, coverage=0.8, kind="linear")
    rows = predictor._matrix(unknown.architectures)
    for row, ends in zip(rows, predictor.intervals(unknown.architectures), strict=True):
        logs_T = np.array([np.log(predictor._fold_models[k].predict(row[None])[0]) for k in predictor._fold_of_T])
        lows, highs = np.sort(logs_T - predictor._residuals_T), np.sort(logs_T + predictor._residuals_T)
        # Of n samples the floor(0.2 (n + 1))th smallest of the lower ends, the ceil(0.8 (n + 1))th of the upper ones:
        # of 39 the 8th and the 32nd, of 40 the 8th and the 33rd.
        assert np.log(ends) == pytest.approx([lows[low], highs[high]])


def test_the_kind_is_chosen_by_what_predicts_best():
    known, _ = split(measured(CELL, 150), 120)
    assert CostPredictor.fit(CELL, known).kind == "linear"
    product_T = np.array([(1 + CELL.plan(a).macs) ** 2 / 1e9 for a in known.architectures])
    twisted = CostSample(
        space="cell",
        device="toy",
        unit="ms",
        architectures=known.architectures,
        values_N=np.sqrt(known.values_N) * (1 + np.sin(8 * np.log(product_T))) + 0.1,
    )
    chosen = CostPredictor.fit(CELL, twisted)
    errors = {kind: CostPredictor.fit(CELL, twisted, kind=kind).check.mean_absolute_percentage_error for kind in MODELS}
    assert chosen.kind == min(errors, key=errors.__getitem__)


def test_a_table_without_plans_is_learned_from_its_choices():
    cells = [CELL.random(np.random.default_rng(seed)) for seed in range(150)]
    rows = {CELL.to_arch_str(each): 1.0 + sum("3x3" in str(v) for _, v in each.items) for each in cells}
    space = TabularSpace(pd.DataFrame({"arch": rows.keys(), "ms": rows.values()}), architecture="arch")
    sample = CostSample(
        space=space.name, device="toy", unit="ms", architectures=space.architectures, values_N=space.column("ms")
    )
    predictor = CostPredictor.fit(space, sample)
    assert predictor.check.mean_absolute_percentage_error < 3


def test_a_saved_predictor_is_the_same(tmp_path):
    known, unknown = split(measured(MOBILE, 60, noise=0.05), 50)
    for kind in MODELS:
        predictor = CostPredictor.fit(MOBILE, known, kind=kind, name="energy")
        path = tmp_path / f"{kind}.json"
        predictor.save(path)
        loaded = CostPredictor.load(path, MOBILE, device="toy")
        assert (loaded.predict(unknown.architectures) == predictor.predict(unknown.architectures)).all()
        assert (loaded.intervals(unknown.architectures) == predictor.intervals(unknown.architectures)).all()
        assert (loaded.name, loaded.unit, loaded.coverage, loaded.check, loaded.describe()) == (
            "energy",
            "ms",
            0.9,
            predictor.check,
            predictor.describe(),
        )
        again = pickle.loads(pickle.dumps(loaded))
        assert again(unknown.architectures[0]) == predictor(unknown.architectures[0])


def test_a_value_says_what_it_is():
    known, unknown = split(measured(MOBILE, 60, noise=0.05), 50)
    predictor, architecture = CostPredictor.fit(MOBILE, known), unknown.architectures[0]
    value, (low, high) = predictor(architecture), predictor.intervals([architecture])[0]
    assert (value.quality, value.unit, value.value) == ("predicted", "ms", predictor.predict([architecture])[0])
    assert value.spread == pytest.approx((high - low) / 2)
    assert "toy" in value.source


def test_other_spaces_and_devices_are_refused(tmp_path):
    known, _ = split(measured(CELL, 60), 50)
    predictor, path = CostPredictor.fit(CELL, known), tmp_path / "p.json"
    predictor.save(path)
    with pytest.raises(ValueError, match="for the space 'cell' with these choices and networks"):
        CostPredictor.load(path, CellSpace(num_cells=1, resolution=16))
    with pytest.raises(ValueError, match="must be a predictor for 'phone', got one for 'toy'"):
        CostPredictor.load(path, CELL, device="phone")
    with pytest.raises(ValueError, match="must belong to space 'cell', got 'mobile-8'"):
        predictor(MOBILE.smallest())
    with pytest.raises(ValueError, match="`sample` must be of space 'mobile-8', got 'cell'"):
        CostPredictor.fit(MOBILE, known)
    with pytest.raises(ValueError, match="does not exist"):
        CostPredictor.load(tmp_path / "none.json", CELL)
    path.write_text("[")
    with pytest.raises(ValueError, match="which cannot be read"):
        CostPredictor.load(path, CELL)
    path.write_text('{"schema_version": 0}')
    with pytest.raises(ValueError, match="of schema version 1"):
        CostPredictor.load(path, CELL)


def test_too_few_samples_and_wrong_settings_are_refused():
    sample = measured(MOBILE, 45)
    with pytest.raises(ValueError, match=r"must hold at least 20 architectures for a coverage of 0.9, got 19"):
        CostPredictor.fit(MOBILE, sample.subset(range(19)))
    with pytest.raises(ValueError, match=r"at least 200 architectures for a coverage of 0.99, got 45"):
        CostPredictor.fit(MOBILE, sample, coverage=0.99)
    with pytest.raises(ValueError, match="`coverage` must be between 0 and 1, got 90"):
        CostPredictor.fit(MOBILE, sample, coverage=90)
    with pytest.raises(ValueError, match="`kind` must be one of linear, gaussian_process, got 'tree'"):
        CostPredictor.fit(MOBILE, sample, kind="tree")
    with pytest.raises(ValueError, match="`kind` must be one of linear, gaussian_process, got None"):
        model_from_json({}, 3)


def test_the_gaussian_process_predicts_what_scikit_learn_does():
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct

    generator = np.random.default_rng(0)
    features_NF = generator.random(size=(60, 3))
    model = GaussianProcess.fit(features_NF, np.exp(features_NF.sum(1)))
    smooth, length, linear, offset = model.kernel
    kernel = ConstantKernel(smooth) * RBF(length) + ConstantKernel(linear) * DotProduct(offset)
    rows = generator.random(size=(5, 3))
    expected = kernel((np.log1p(rows) - model.centre_F) / model.scale_F, model.points_TF) @ model.weights_T
    assert np.log(model.predict(rows)) == pytest.approx(expected * model.deviation + model.mean)
    assert model.predict(features_NF) == pytest.approx(np.exp(features_NF.sum(1)), rel=0.05)


def test_the_linear_model_weighs_errors_by_the_value_and_stays_positive():
    features_NF = np.arange(1.0, 41.0)[:, None]
    model = LinearModel.fit(features_NF, 3 + 2 * features_NF[:, 0])
    assert model.predict(np.array([[100.0]])) == pytest.approx([203], rel=1e-3)
    assert model.predict(np.array([[-100.0]])) == pytest.approx([0.5])  # a tenth of the smallest value


def test_features_tell_computed_edges_from_kept_ones():
    written = CellSpace(merge_isomorphic=False, num_cells=1)
    idle = written.from_arch_str("|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|")
    found = plan_features(written.plan(idle))
    assert found["conv kernel 3 count"] == found["kept conv kernel 3 count"] + 3  # one in each stage
    with pytest.raises(ValueError, match="must belong to space 'mobile-8', got 'cell'"):
        features(MOBILE, idle)


def test_digests_tell_spaces_apart():
    spaces = [CELL, CellSpace(num_cells=1, resolution=16), CellSpace(num_cells=2, resolution=8), MOBILE, CHAIN]
    assert len({space_digest(space) for space in spaces}) == len(spaces)
    assert space_digest(CellSpace(num_cells=1, resolution=8)) == space_digest(CELL)
