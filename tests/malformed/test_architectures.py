"""Architectures of every space, genotypes, and NAS-Bench-201's notation."""

import json

import numpy as np
import pandas as pd
import pytest
from contract import check
from damage import dumps, files, json_files, json_values, place, texts
from hypothesis import strategies as st

from nasray.architecture import Architecture
from nasray.reading import parse_json
from nasray.spaces.cell import CellSpace
from nasray.spaces.chain import ChainSpace
from nasray.spaces.genotype import DARTS_V2, Genotype
from nasray.spaces.mobile_networks import mobile_space
from nasray.spaces.multi_scale import MultiScaleSettings, MultiScaleSpace
from nasray.spaces.tabular import TabularSpace

SPACES = {
    "mobile": mobile_space("mobile-8", num_classes=10, in_channels=1, resolution=8),
    "cell": CellSpace(),
    "chain": ChainSpace(num_classes=10, in_channels=1, resolution=8, num_feature_slots=3, num_head_slots=2),
    "multi_scale": MultiScaleSpace(MultiScaleSettings(layers=3, channels=4, num_nodes=2)),
    "tabular": TabularSpace(
        pd.DataFrame({"arch": ["1|a", "2|b", "8|c"], "cost": [1.0, 2.0, 3.0]}), architecture="arch"
    ),
}


def test_architecture_json():
    document = {"space": "cell", "choices": {"a": 1, "b": 0.5, "c": "x", "d": True}}
    valid = json.dumps(document).encode()

    def accept(found, case):
        assert found.to_json() == parse_json(case)
        assert Architecture.from_json(json.loads(json.dumps(found.to_json()))).arch_id == found.arch_id

    cases = st.one_of(json_values(document).map(dumps), files(valid, entries=False))
    check("architecture JSON", cases, lambda case: Architecture.from_json(read(case)), examples=1500, accept=accept)


@pytest.mark.parametrize("name", SPACES)
def test_architectures_of_a_space(name):
    space = SPACES[name]
    document = space.random(np.random.default_rng(1)).to_json()

    def accept(found, case):
        assert space.check(found) == found and found.space == space.name
        for choice, options in space.choices.items():
            assert any(found[choice] is option or found[choice] == option for option in options)
            assert type(found[choice]) in {type(option) for option in options}

    cases = json_values(document).map(dumps)
    check(
        f"architecture of a {name} space",
        cases,
        lambda case: space.check(Architecture.from_json(read(case))),
        examples=300,
        accept=accept,
    )


def test_genotypes(fresh):
    def accept(found, case):
        assert found.to_json() == parse_json(case)

    check(
        "genotype",
        json_files(DARTS_V2.to_json()),
        lambda case: Genotype.load(place(fresh("genotype.json"), case)),
        examples=1000,
        accept=accept,
    )


def test_notation_of_nas_bench_201():
    space = CellSpace(merge_isomorphic=False)
    valid = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"

    def accept(found, case):
        assert space.to_arch_str(found) == case.strip()

    check("NAS-Bench-201 cell", texts(valid), space.from_arch_str, examples=500, accept=accept)


def read(content):
    """Read as a file's reader does, whose sentence names the file."""
    try:
        return parse_json(content)
    except ValueError as error:
        raise ValueError(f"The file must hold an architecture, got another ({error}).") from error
