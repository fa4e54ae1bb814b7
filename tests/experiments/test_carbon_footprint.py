"""The footprint program as a person runs it, and its page."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nasray.tune.cli_errors import exit_status

PROGRAM = Path(__file__).parents[2] / "experiments" / "carbon_footprint.py"
CSV = "name,gpu_hours,source,gpu_type,top1_accuracy,macs\n<b>Mine[red],10,me,T4,0.7,2e8\n"


def run(*options):
    spec = importlib.util.spec_from_file_location("carbon_footprint", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return exit_status(module.main, [str(option) for option in options])


def figures_of(page):
    return json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', page).group(1))


@pytest.fixture
def plain(tmp_path):
    file, page = tmp_path / "rows.json", tmp_path / "page.html"
    assert run("--output", page, "--json", file) == 0
    return json.loads(file.read_text()), page.read_text(encoding="utf-8")


def test_json_has_a_row_for_each_search_of_known_hours(plain):
    rows, _ = plain
    assert all(list(row) == ["name", "gpu_hours", "energy_wh", "carbon_kg", "strubell_lb"] for row in rows)
    for row in rows:  # all on V100s, or assumed to be
        assert row["energy_wh"] == pytest.approx(548.55 * row["gpu_hours"])
        assert row["carbon_kg"] == pytest.approx(0.38782485 * row["gpu_hours"])
        assert row["strubell_lb"] == pytest.approx(1438 / (64 * 79) * row["gpu_hours"])
    pounds = {row["name"]: round(row["strubell_lb"]) for row in rows}
    assert (pounds["ProxylessNAS"], pounds["Once-for-All"], pounds["NetAdaptV2 (latency)"]) == (142, 374, 113)
    assert "MnasNet" not in pounds


def test_page_has_the_figures_and_flags_equation_3(plain):
    _, page = plain
    search, million, million_published, lifetime, lifetime_published = figures_of(page)
    assert sum(len(trace["x"]) for trace in search["data"]) == 9
    ends = {trace["y"][0]: trace["x"][1] for trace in million["data"]}
    assert ends["ResNet"] == pytest.approx(64_637.475)
    assert {trace["y"][0]: trace["x"][1] for trace in million_published["data"]}["ResNet"] == pytest.approx(
        90.322, abs=1e-3
    )
    assert {trace["y"][0]: trace["x"][1] for trace in lifetime["data"]}["ResNet"] == pytest.approx(232_694.91)
    unknown = [trace for trace in lifetime["data"] if trace["x"] == [0.0, 0.0]]
    assert [trace["text"][1] for trace in unknown] == [" not known"] * 2
    assert [trace["x"][1] for trace in lifetime_published["data"]] == [65.1, 181.7, 326.6]
    assert "V100 assumed" in page
    assert page.count("gives W s h and not an energy") == 3
    assert "at the 4.63 t per car that the other rows imply it is 39.2" in page


def test_page_needs_nothing_else_and_runs_only_its_own_scripts(plain):
    _, page = plain
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r'\b(src|href)="(?!#)', markup)
    assert "default-src &#x27;none&#x27;" in markup
    assert 'name="viewport"' in markup


def test_own_factors_and_methods_stand_next_to_the_papers(tmp_path, capsys):
    methods, file, page = tmp_path / "methods.csv", tmp_path / "rows.json", tmp_path / "page.html"
    methods.write_text(CSV)
    assert run("--methods", methods, "--pue", "1.1", "--intensity", 50, "--json", file, "--output", page) == 0
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert rows["<b>Mine[red]"]["energy_wh"] == pytest.approx(1.1 * 10 * (70 + 45))
    assert rows["<b>Mine[red]"]["carbon_kg"] == pytest.approx(1.1 * 10 * 115 * 50e-6)
    assert rows["ProxylessNAS"]["energy_wh"] == pytest.approx(1.1 * 500 * 345)
    printed = capsys.readouterr().out
    assert "<b>Mine[red]" in " ".join(printed.split())
    assert "274.3" in printed and "193.9" in printed and "9.5" in printed
    text = page.read_text(encoding="utf-8")
    assert "<b>Mine" not in text
    search = figures_of(text)[0]
    assert set(search["layout"]["meta"]["costs"]) == {"paper", "own"}
    added = search["data"][-1]
    assert added["meta"]["columns"]["own"] == [pytest.approx(1.1 * 10 * 115 * 50e-6)]
    assert added["meta"]["columns"]["paper"] == [pytest.approx(1.59 * 10 * 115 * 707e-6)]
    assert added["marker"]["symbol"] == "square"


def test_one_own_factor_leaves_the_other_as_in_the_paper(tmp_path):
    file = tmp_path / "rows.json"
    assert run("--pue", "1.0", "--json", file, "--output", tmp_path / "page.html") == 0
    row = json.loads(file.read_text())[0]
    assert row["energy_wh"] == pytest.approx(500 * 345)
    assert row["carbon_kg"] == pytest.approx(500 * 345 * 707e-6)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--methods", "absent.csv"], "No such file or directory"),
        (["--methods", "wrong.csv"], "wrong.csv, line 2: `gpu_hours` must be a number or empty, got 'ten'"),
        (["--pue", "0.5"], "`pue` must be a number of at least 1"),
        (["--intensity", "-1"], "`intensity_g_per_kwh` must be"),
        (["--json", "/does/not/exist/rows.json"], "`json` must name a file in a folder that exists"),
        (["--output", "/does/not/exist/page.html"], "`output` must name a file in a folder that exists"),
        (["--intensity", "much"], "Invalid value for '--intensity'"),
    ],
)
def test_wrong_input_ends_with_one_sentence_and_status_2(tmp_path, monkeypatch, capsys, options, sentence):
    monkeypatch.chdir(tmp_path)
    Path("wrong.csv").write_text("name,gpu_hours,source\nA,ten,b\n")
    assert run(*options) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not Path("carbon_footprint.html").exists()


def test_the_program_itself_needs_neither_ray_nor_torch():
    code = (
        "import importlib.util, sys; "
        f"spec = importlib.util.spec_from_file_location('program', {str(PROGRAM)!r}); "
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module); "
        "print([name for name in ('ray', 'torch', 'optuna', 'pandas', 'plotly') if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROGRAM.parents[1]
    )
    assert shown.stdout.strip() == "[]"
