import math

import pytest

from nasray.architecture import Architecture
from nasray.spaces.elastic_space import ElasticSpace, choice


class Net:
    def __init__(self, width=choice(8, 16), kernel=choice(3, 5), activation=choice("relu", "silu"), bias=True):
        self.arguments = {"width": width, "kernel": kernel, "activation": activation, "bias": bias}


def test_marked_arguments_are_the_choices_and_reach_the_network():
    space = ElasticSpace(Net)
    assert space.name == "Net"
    assert dict(space.choices) == {"activation": ("relu", "silu"), "kernel": (3, 5), "width": (8, 16)}
    architecture = space.canonical({"width": 16, "kernel": 3, "activation": "silu"})
    assert space.build(architecture).arguments == {"width": 16, "kernel": 3, "activation": "silu", "bias": True}
    assert len(space.enumerate(100)) == 8
    assert ElasticSpace(lambda width=choice(1, 2): width, name="mine").build(Architecture.of("mine", {"width": 2})) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((8,), "at least two different values"),
        ((8, 8), "at least two different values"),
        ((8, 4), "ascending order"),
        ((1, "a"), "ascending order"),
        ((1.0, math.nan), "finite numbers in ascending order"),
        ((None, 1), "must be numbers, texts or booleans"),
    ],
)
def test_choices_that_are_none_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        choice(*options)


def test_classes_without_choices_or_defaults_are_told():
    with pytest.raises(ValueError, match="must have an argument whose default is a choice, got none"):
        ElasticSpace(lambda width=8: width, name="x")
    with pytest.raises(ValueError, match="must have a default or a choice, got 'classes' without one"):
        ElasticSpace(lambda classes, width=choice(1, 2): width, name="x")
    with pytest.raises(ValueError, match="`space` must match"):
        ElasticSpace(Net, name="a/b")
    with pytest.raises(ValueError, match="must belong to space 'Net'"):
        ElasticSpace(Net).build(Architecture.of("other", {"width": 8}))
