"""The sections on networks with early exits."""

import re
import statistics

import pytest

from nasray.records import RunDirectory
from nasray.report import write_report
from nasray.report.anytime import anytime, exits_figure
from nasray.report.anytime_adaptive import budget_sentences, within_budgets
from nasray.report.anytime_table import anytime_table, comparison_sentences, difference_text, kinds
from nasray.report.sections import Figures
from nasray.spaces.genotype import DARTS_V2
from nasray.spaces.multi_scale_layout import MultiScaleSettings


def network(group, seed, accuracies, variant="3 scales <b>"):
    is_found = group == "found"
    layout = MultiScaleSettings(num_nodes=4, scales=1, layers=4, exits=len(accuracies), channels=4)
    return {
        "name": f"{group}-{seed}",
        "group": group,
        "label": group.capitalize(),
        "variant": variant,
        "seed": seed,
        "arch_id": f"id-{group}-{seed}",
        "genotype": DARTS_V2.to_json() if is_found else None,
        "layout": layout.to_drawing() if is_found else None,
        "model_dir": "models/x" if is_found else None,
        "is_best": seed == 0,
        "holdout_area_under_curve": 0.5 + 0.1 * seed,
        "test_area_under_curve": 0.4,
        "expected_test_accuracy": accuracies[0] + 0.01,
        "adaptive": [
            {
                "budget_macs": 1.5e5,
                "test_mean_macs": 1.4e5 + seed,
                "test_accuracy": 0.77,
                "test_shares": [0.6, 0.4],
            }
        ],
        "exits": [
            {
                "exit": exit,
                "test_accuracy": accuracy,
                "macs": 1e5 * exit + seed,
                "cumulative_macs": 1.1e5 * exit,
                "parameters": 1e4 * exit,
                "latency_ms": float(exit),
                "energy_mj": None,
            }
            for exit, accuracy in enumerate(accuracies, start=1)
        ],
    }


@pytest.fixture
def networks():
    return [
        network("found", 0, [0.5, 0.9]),
        network("found", 1, [0.7, 0.8]),
        network("random", 0, [0.4, 0.6]),
        network("msdnet", 0, [0.45, 0.95]),
    ]


@pytest.fixture
def results(networks):
    difference = {"values": [0.1, 0.3], "mean": 0.2, "std": 0.1414}
    return {
        "networks": networks,
        "budgets": {"area_max_macs": 2.5e5, "expected_macs": None, "expected_range_macs": [1e5, 2e5]},
        "searches": [
            {
                "name": "s<1>",
                "genotype": DARTS_V2.to_json(),
                "history": [{"epoch": 1, "loss": 2.0, "valid_loss": 2.5, "num_skips": 1.0, "num_poolings": 2.0}],
                "seconds": 61.0,
            }
        ],
        "comparisons": [
            {
                "variant": "3 scales <b>",
                "rival": "random",
                "num_rivals": 2,
                "macs_ratio": 1.01,
                "parameters_ratio": 2.5,
                "first_exit_share": {"found": 0.5, "rival": 0.271},
                "differences": dict.fromkeys(("last_exit", "all_budgets", "answered_budgets"), difference),
            }
        ],
    }


def test_kinds_have_means_and_spreads_over_their_networks(networks):
    found, random, _ = kinds(networks)
    first = found.exits[0]
    assert (first.exit, first.accuracy) == (1, pytest.approx(0.6))
    assert first.accuracy_std == pytest.approx(statistics.stdev([0.5, 0.7]))
    assert first.costs["macs"] == pytest.approx(1e5 + 0.5)
    assert first.costs["energy_mj"] is None  # unknown, not 0
    assert random.exits[1].accuracy_std is None


def test_labels_tell_ways_to_search_apart_only_where_there_are_several(networks):
    assert [kind.label for kind in kinds(networks)] == ["Found", "Random", "Msdnet"]
    several = kinds([*networks, network("found", 0, [0.1, 0.2], variant="1 scale")])
    assert several[-1].label == "Found: 1 scale"


def test_figure_has_a_line_for_each_kind_and_a_column_for_each_known_cost(networks):
    figure = exits_figure(kinds(networks))
    assert set(figure.layout.meta["costs"]) == {"macs", "parameters", "latency_ms"}
    lines = [trace for trace in figure.data if trace.mode == "lines+markers" and "early" not in trace.name]
    assert [trace.name for trace in lines] == ["Found", "Random", "Msdnet"]
    assert list(lines[0].y) == pytest.approx([0.6, 0.85])
    assert list(lines[0].error_y.array) == pytest.approx([statistics.stdev(v) for v in ([0.5, 0.7], [0.9, 0.8])])
    assert lines[0].meta["columns"]["latency_ms"] == [1.0, 2.0]
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert sum(len(trace.x) for trace in marks) == 4  # of the one kind with several networks


def test_the_best_of_each_kind_has_a_dashed_line_against_multiply_adds_alone(networks):
    figure = exits_figure(kinds(networks))
    early = [trace for trace in figure.data if "early" in trace.name]
    assert [trace.name for trace in early] == [f"{kind}, leaving early" for kind in ("Found", "Random", "Msdnet")]
    assert list(early[0].x) == [1.4e5] and list(early[0].y) == [0.77]  # seed 0, the best, and not seed 1
    assert {trace.meta["cost"] for trace in early} == {"macs"}
    assert [trace.meta["series"] for trace in early] == [0, 1, 2]


def test_accuracies_within_budgets_are_tabulated(results):
    text = "".join(within_budgets(kinds(results["networks"]), results["budgets"]))
    assert "from 0 to 250.0 K" in text and "budgets from 100.0 K to 200.0 K multiply-adds" in text
    assert f"55.00 \N{PLUS-MINUS SIGN} {100 * statistics.stdev([0.5, 0.6]):.2f} %" in text
    # 140 K pay for exit 1 alone, of which the best found network has 50 %.
    cells = re.findall(r"<span>([^<]*)</span>", text)
    assert cells[cells.index("150.0 K") :][:5] == ["150.0 K", "140.0 K", "77.00 %", "50.00 %", "60 / 40"]
    assert cells.count("77.00 %") == 3


def test_results_without_figures_within_budgets_have_no_section(results):
    for row in results["networks"]:
        del row["is_best"]
    assert within_budgets(kinds(results["networks"]), results["budgets"]) == []


def test_lines_on_budgets(results):
    expected, found, *_ = budget_sentences(kinds(results["networks"]), results["budgets"])
    spread = f"{100 * statistics.stdev([0.5, 0.7]):.2f}"
    assert f"each as likely: Found 61.00 \N{PLUS-MINUS SIGN} {spread} %; Random 41.00 %;" in expected
    assert found.startswith("Found (found-0), images leaving once an exit is sure: 77.00 % at 140.0 K multiply-adds")
    assert found.endswith("the last exit for all: 90.00 % at 200.0 K.")
    given = results["budgets"] | {"expected_macs": [1e5, 3e5]}
    assert "budgets of 100.0 K, 300.0 K multiply-adds" in next(budget_sentences(kinds(results["networks"]), given))


def test_sections_hold_every_exit_and_no_markup_from_files(results):
    text = "".join(anytime(results, Figures()))
    assert text.count("90.00") >= 1 and "85.00" in text
    assert "3 scales &lt;b&gt;" in text and "<b>" not in text
    assert "+20.00" in text and "Normal cell" in text and "exit 2" in text
    assert "1 min 01 s" in text
    assert "Ways to search" not in text


def test_several_ways_to_search_are_compared(results):
    results["networks"].append(network("found", 0, [0.1, 0.2], variant="1 scale"))
    figures = Figures()
    assert "Ways to search" in "".join(anytime(results, figures))
    found = next(figure for figure in figures.drawn if "1 scale" in str(figure["data"][0].get("y")))
    assert found["data"][0]["x"] == pytest.approx([0.85, 0.2])


@pytest.mark.parametrize("results", [None, {}, {"networks": []}])
def test_a_run_that_trained_nothing_says_so(results):
    (text,) = anytime(results, Figures())
    assert "No network was trained before the run stopped." in text


def test_the_page_of_a_run_has_the_sections(tmp_path, results):
    run = RunDirectory.create(
        tmp_path / "run", method="ms-ranas", preset="quick", configuration={}, seed=0, data={"name": "d"}, resume=False
    )
    assert "No network was trained" in write_report(run).read_text()
    run.write_json("anytime.json", results)
    page = write_report(run).read_text()
    assert "Accuracy of each exit" in page and "Searches" in page
    assert "Trajectory" not in page


def test_terminal_table_has_a_row_for_each_exit_of_each_kind(networks):
    table = anytime_table(networks)
    assert table.row_count == 6
    assert list(table.columns[3].cells)[:3] == [
        "60.00 \N{PLUS-MINUS SIGN} 14.14",
        "85.00 \N{PLUS-MINUS SIGN} 7.07",
        "40.00",
    ]


def test_sentences_say_differences_in_points(results):
    (sentence,) = comparison_sentences(results["comparisons"])
    assert sentence.startswith("Found minus random architectures (3 scales <b>), in points: +20.00")
    ratios = "takes 1.01x the multiply-adds and 2.50x the parameters of the found one's"
    assert f"The last exit of random architectures {ratios}" in sentence
    assert sentence.endswith("exit 1 takes 27% of the last exit's multiply-adds (found 50%).")
    assert "+20.00 \N{PLUS-MINUS SIGN} 14.14 (2 seeds) last exit" in sentence
    assert difference_text({"values": [], "mean": None, "std": None}) == "\N{EN DASH}"
    assert difference_text({"values": [-0.01], "mean": -0.01, "std": None}) == "-1.00 (1 seed)"
