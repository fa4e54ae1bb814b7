import pytest

from nasray.carbon.equivalents import TABLE_1, cars_driven, homes_powered

ROWS = {row.name: row for row in TABLE_1}


def test_table_1_is_as_printed() -> None:
    printed = [(row.name, row.carbon_t, row.cars, row.homes) for row in TABLE_1]
    assert printed == [
        ("ResNet", 326.6, 70.6, 55.3),
        ("VGG", 181.7, 39.8, 30.8),
        ("GoogLeNet", 65.1, 14.1, 11.0),
    ]


@pytest.mark.parametrize("name", ["ResNet", "VGG", "GoogLeNet"])
def test_homes_of_all_rows_are_reproduced(name) -> None:
    assert round(homes_powered(ROWS[name].carbon_t), 1) == ROWS[name].homes


@pytest.mark.parametrize("name", ["ResNet", "GoogLeNet"])
def test_cars_are_reproduced_but_for_the_erratum(name) -> None:
    assert cars_driven(ROWS[name].carbon_t) == pytest.approx(ROWS[name].cars, abs=0.1)
    assert ROWS[name].erratum == ""


def test_vggs_cars_are_an_erratum() -> None:
    vgg = ROWS["VGG"]
    assert round(cars_driven(vgg.carbon_t), 1) == 39.2
    assert vgg.cars == 39.8
    assert "39.2" in vgg.erratum


@pytest.mark.parametrize("function", [cars_driven, homes_powered])
def test_tonnes_must_be_a_number(function) -> None:
    assert function(0) == 0
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="`carbon_t` must be"):
            function(wrong)
