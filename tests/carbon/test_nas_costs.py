import pytest

from nasray.carbon.fu2021 import Factors, strubell_lb
from nasray.carbon.nas_costs import SearchMethod, read_methods, search_cost
from nasray.carbon.nas_costs_published import PUBLISHED_LB, PUBLISHED_METHODS

METHODS = {method.name: method for method in PUBLISHED_METHODS}


@pytest.mark.parametrize(("gpu_hours", "pounds"), [(500, 142), (243, 69), (1315, 374), (2304, 655), (397, 113)])
def test_netadaptv2s_co2_column(gpu_hours, pounds) -> None:
    assert round(strubell_lb(gpu_hours)) == pounds


def test_every_printed_co2_figure_is_reproduced() -> None:
    assert len(PUBLISHED_LB) == 5
    for name, pounds in PUBLISHED_LB.items():
        assert round(search_cost(METHODS[name]).strubell_lb) == pounds


def test_methods_have_unique_names_and_a_source() -> None:
    assert len(METHODS) == len(PUBLISHED_METHODS)
    assert all(method.source for method in PUBLISHED_METHODS)


def test_derived_hours_come_from_what_is_printed() -> None:
    assert METHODS["DARTS"].gpu_hours == 4 * 24
    assert METHODS["MENNDL (one data set)"].gpu_hours == 2 * 24 * 6 * 6
    assert METHODS["Once-for-All"].gpu_hours == 1200 + 40 + 75
    assert METHODS["NetAdaptV2 (latency)"].gpu_hours == 167 + 24 + 206
    assert METHODS["NetAdaptV2 (MACs)"].gpu_hours == 204 + 35 + 417
    assert METHODS["NSGANetV2-m"].gpu_hours == 1200 + 24 + 450
    assert METHODS["Single-Path NAS"].gpu_hours == 24 + 0 + 219
    assert METHODS["NetAdaptV1"].gpu_hours == 543 + 178
    assert METHODS["NetAdaptV1 + OD"].gpu_hours == 50 + 2 + 169
    assert (METHODS["NetAdaptV1 for depth"].gpu_hours, METHODS["NetAdaptV2 for depth"].gpu_hours) == (96 + 65, 96 + 27)


def test_what_is_not_printed_is_not_known() -> None:
    for name in ("MnasNet", "AutoSlim", "FBNet", "MobileNetV3", "FairNAS", "NAT-M4", "MS-RANAS"):
        assert METHODS[name].gpu_hours is None
        assert search_cost(METHODS[name]) is None


def test_cost_uses_the_gpu_and_the_factors() -> None:
    method = SearchMethod(name="x", source="y", gpu_hours=10, gpu_type="T4")
    cost = search_cost(method, factors=Factors(pue=1.0, intensity_g_per_kwh=10.0, cpu_power_w=30.0))
    assert (cost.energy_wh, cost.carbon_kg) == (1000, pytest.approx(0.01))
    known = search_cost(SearchMethod(name="x", source="y", gpu_hours=1, gpu_type="TPU v4", gpu_power_w=192))
    assert known.energy_wh == pytest.approx(1.59 * (192 + 45))


def test_a_file_adds_methods(tmp_path) -> None:
    path = tmp_path / "methods.csv"
    path.write_text(
        "\ufeffname,gpu_hours,source,gpu_type,gpu_power_w,top1_accuracy,macs\n"
        'Mine,12.5,"a log, of ours",t4,,0.75,2e8\n'
        "Other,,somebody,,,,\n"
        "Odd,3,somebody,TPU v4,192,,\n",
        encoding="utf-8",
    )
    mine, other, odd = read_methods(path)
    assert (mine.name, mine.gpu_hours, mine.power_w, mine.top1_accuracy, mine.macs) == ("Mine", 12.5, 70, 0.75, 2e8)
    assert mine.source == "a log, of ours"
    assert (other.gpu_hours, other.gpu_type, other.macs, other.power_w) == (None, None, None, 300)
    assert odd.power_w == 192


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the columns must be name, gpu_hours, source"),
        ("name,gpu_hours\nA,1\n", "line 1: the columns must be"),
        ("name,gpu_hours,source,hours\nA,1,b,2\n", "line 1: the columns must be"),
        ("name,gpu_hours,source,source\nA,1,b,2\n", "each once"),
        ("name,gpu_hours,source\n", "must hold a method, got none"),
        ("name,gpu_hours,source\nA,1,b\nB,ten,c\n", "line 3: `gpu_hours` must be a number or empty, got 'ten'"),
        ("name,gpu_hours,source\nA,-1,b\n", "line 2: `gpu_hours` must be a positive number"),
        ("name,gpu_hours,source\nA,nan,b\n", "line 2: `gpu_hours` must be a positive number"),
        ("name,gpu_hours,source\nA,1\n", "line 2: must have as many cells"),
        ("name,gpu_hours,source\nA,1,b,c\n", "line 2: must have as many cells"),
        ("name,gpu_hours,source\n,1,b\n", "line 2: `name` and `source` must not be empty"),
        ("name,gpu_hours,source,top1_accuracy\nA,1,b,76.9\n", "line 2: `top1_accuracy` must be a fraction"),
        ("name,gpu_hours,source,gpu_type\nA,1,b,Voodoo\n", "line 2: `gpu_type` must be one of V100.*gpu_power_w"),
        ("name,gpu_hours,source\nA,1,b\nA,2,b\n", "line 3: 'A' is there already"),
        ('name,gpu_hours,source\nA,1,"b\n', "must be a CSV file"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, text, message) -> None:
    path = tmp_path / "methods.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read_methods(path)


def test_a_name_of_the_papers_is_taken_and_bytes_are_refused(tmp_path) -> None:
    path = tmp_path / "methods.csv"
    path.write_text("name,gpu_hours,source\nDARTS,1,b\n")
    with pytest.raises(ValueError, match="line 2: 'DARTS' is there already"):
        read_methods(path, known=PUBLISHED_METHODS)
    path.write_bytes(b"name,gpu_hours,source\n\xff\xfe,1,b\n")
    with pytest.raises(ValueError, match="must be a CSV file in UTF-8"):
        read_methods(path)
    with pytest.raises(ValueError, match=r"absent.csv must be a file that can be read"):
        read_methods(tmp_path / "absent.csv")
