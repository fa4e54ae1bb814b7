import json

import numpy as np
import pytest

from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.spaces.cell import CellSpace
from nasray.spaces.chain import ChainSpace
from nasray.strategies.architecture_codes import ArchitectureCodes
from nasray.strategies.random_search import RandomSearch
from nasray.strategies.strategy import StateError

SPACES = (CellSpace(), ChainSpace(num_classes=10, in_channels=1, resolution=8))


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_architectures_come_back_from_their_codes(space):
    generator, codes = np.random.default_rng(0), ArchitectureCodes(space)
    for architecture in (space.smallest(), space.largest(), *(space.random(generator) for _ in range(20))):
        written = json.loads(json.dumps(codes.of(architecture)))
        assert ArchitectureCodes(space).architecture(written) == architecture
        # What the codes say, looked up by hand.
        by_name = dict(zip(sorted(space.choices), written, strict=True))
        assert {name: space.choices[name][code] for name, code in by_name.items()} == architecture.choices
        assert len(json.dumps(written)) < len(json.dumps(architecture.to_json())) / 4


def test_codes_of_other_spaces_are_refused():
    codes = ArchitectureCodes(SPACES[0])
    good = codes.of(SPACES[0].largest())
    for bad in (good[:-1], [*good, 0], [-1, *good[1:]], [99, *good[1:]]):
        with pytest.raises(ValueError, match="must have the number of an option for each"):
            codes.architecture(bad)
    assert codes.digest == ArchitectureCodes(CellSpace()).digest != ArchitectureCodes(SPACES[1]).digest


def test_state_of_a_space_with_other_choices_is_refused():
    formulation = Pareto([Objective(name="accuracy", direction="maximize")])

    def search(space):
        return RandomSearch(space, formulation, num_evaluations=5, generator=np.random.default_rng(0))

    saved = search(SPACES[0]).state_dict()
    with pytest.raises(StateError, match="`space` must have the choices of"):
        search(SPACES[1]).load_state_dict(saved)
