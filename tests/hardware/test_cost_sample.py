import json

import numpy as np
import pytest

from nasray.hardware.cost_sample import CostSample, load_sample, measure_sample, spread_architectures
from nasray.spaces.cell import CellSpace
from nasray.spaces.mobile_networks import mobile_space

SPACE = mobile_space("mobile-8", num_classes=10)


def macs(architecture):
    return float(SPACE.plan(architecture).macs)


def sample(path, measure=macs, **settings):
    options = {"num": 6, "generator": np.random.default_rng(0), "device": "here", "rounds": 3, "proxy": macs}
    return measure_sample(SPACE, measure, path=path, **(options | settings))


def test_architectures_are_different_and_reach_further_than_uniform_ones():
    found = spread_architectures(SPACE, 20, np.random.default_rng(0), proxy=macs)
    uniform = [SPACE.random(np.random.default_rng(seed)) for seed in range(20)]
    assert len(set(found)) == 20

    def decades(architectures):
        costs = [macs(each) for each in architectures]
        return np.log10(max(costs) / min(costs))

    assert decades(found) > 1.5 * decades(uniform)


def test_a_small_space_gives_what_it_has(tiny_space):
    few = spread_architectures(tiny_space, 10_000, np.random.default_rng(0))
    every = set(tiny_space.enumerate(10**6))
    assert len(few) == len(set(few))
    assert set(few) <= every
    assert len(few) > 0.9 * len(every)


def test_architectures_without_a_proxy_are_left_out():
    def large(architecture):
        if macs(architecture) < 1e5:
            raise ValueError("too small")
        return macs(architecture)

    found = spread_architectures(SPACE, 5, np.random.default_rng(0), proxy=large)
    assert min(map(macs, found)) >= 1e5


def test_rounds_are_interleaved_and_the_median_or_minimum_counts(tmp_path):
    seen = []

    def measure(architecture):
        seen.append(architecture)
        return 1.0 + len(seen) // 6

    path = tmp_path / "sample.jsonl"
    found = sample(path, measure)
    assert [len(set(seen[turn * 6 : turn * 6 + 6])) for turn in range(3)] == [6, 6, 6]
    assert ((found.values_N >= 2) & (found.values_N <= 3)).all()
    assert (load_sample(path, SPACE, keep="minimum").values_N <= 2).all()
    assert found.noise > 0


def test_a_stopped_sample_goes_on_without_measuring_again(tmp_path):
    path, count = tmp_path / "sample.jsonl", []

    def interrupted(architecture):
        if len(count) == 10:
            raise KeyboardInterrupt
        count.append(architecture)
        return macs(architecture)

    with pytest.raises(KeyboardInterrupt):
        sample(path, interrupted)
    path.write_bytes(path.read_bytes() + b'{"index": 3, "val')  # a torn line
    assert len(load_sample(path, SPACE).values_N) == 6
    rest = []
    whole = sample(path, lambda a: rest.append(a) or macs(a), generator=np.random.default_rng(5))
    assert len(rest) == 8
    assert whole.values_N.tolist() == [macs(each) for each in whole.architectures]
    assert sample(path, lambda a: pytest.fail("measured again")).values_N.tolist() == whole.values_N.tolist()


def test_a_file_of_another_space_or_device_is_refused(tmp_path):
    path = tmp_path / "sample.jsonl"
    sample(path)
    with pytest.raises(ValueError, match=r"`device` must be 'here' to go on with .*, got 'there'"):
        sample(path, device="there")
    with pytest.raises(ValueError, match="`space` must be 'mobile-8'"):
        load_sample(path, CellSpace())
    path.write_text(json.dumps({"schema_version": 1, "space": "mobile-8", "device": "here", "unit": "ms"}) + "\n")
    with pytest.raises(ValueError, match="must be a sample of measured architectures"):
        sample(path)


def test_values_must_be_positive_and_fit():
    architecture = SPACE.smallest()
    with pytest.raises(ValueError, match="`values_N` must be finite and positive"):
        CostSample(space="mobile-8", device="d", unit="ms", architectures=[architecture], values_N=np.array([0.0]))
    with pytest.raises(ValueError, match="one value per architecture"):
        CostSample(space="mobile-8", device="d", unit="ms", architectures=[architecture], values_N=np.ones(2))
    with pytest.raises(ValueError, match="must all be of space 'cell', got one of 'mobile-8'"):
        CostSample(space="cell", device="d", unit="ms", architectures=[architecture], values_N=np.ones(1))


def test_num_must_be_positive():
    with pytest.raises(ValueError, match="`num` must be at least 1, got 0"):
        spread_architectures(SPACE, 0, np.random.default_rng(0))
