"""The report as people use it: in a real browser, by hand, by keyboard, in the dark and on a phone."""

import json
import shutil

import numpy as np
import pytest

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.pareto import front_indices
from nasray.records import RunDirectory
from nasray.report import write_report
from nasray.report.candidates import Candidates
from nasray.report.trade_offs import trade_offs_of

pytestmark = pytest.mark.slow

DRAWN = "document.documentElement?.dataset.drawn === 'all'"
PLOTS = """[...document.querySelectorAll('.plot')].map(plot => [plot.id,
    plot.querySelectorAll('.scatterlayer .point, .scatterlayer .js-line, .barlayer .point').length])"""
TITLES = "['x', 'y'].map(axis => document.querySelector(`#plot-pair .g-${axis}title text`).textContent)"
FRONT = "document.querySelector('#plot-pair').data.find(trace => trace.name === 'front')"


@pytest.fixture
def page(browser, made_up_run):
    """A browser that shows the report of a run of 400 evaluations."""
    browser.load(write_report(made_up_run(400)), until=DRAWN)
    yield browser
    assert browser.problems == []
    assert all(address.startswith(("file:", "data:", "blob:")) for address in browser.requests)


def choose(page, name, value):
    page.evaluate(
        f"(() => {{ const select = document.getElementById('choose-{name}'); select.value = {json.dumps(value)}; "
        "select.dispatchEvent(new Event('change')); })()"
    )


@pytest.fixture
def candidates(made_up_run):
    """The candidates of the run that `page` shows."""
    run = made_up_run(400)
    return Candidates.of_run(run.run, None, run.evaluations())


def test_every_figure_is_drawn(page):
    plots = dict(page.evaluate(PLOTS))
    assert list(plots)[:2] == ["plot-pair", "plot-parallel"] and "plot-order" in plots
    assert len(plots) == 7  # and two hypervolumes, nodes, stages
    assert all(count > 0 for count in plots.values()), plots
    assert len(page.requests) == 1  # the file itself


def test_another_pair_changes_axes_front_and_table(page, candidates):
    assert page.evaluate(TITLES) == ["MACs, less is better", "Accuracy, more is better"]
    for x, y in (("macs", "accuracy"), ("latency_ms", "macs"), ("accuracy", "parameters")):
        choose(page, "x", x)
        choose(page, "y", y)
        shown = page.evaluate(f"{FRONT}.customdata")
        assert sorted(shown) == sorted(candidates.front([x, y]))
        rows = page.evaluate("document.querySelectorAll('#pair-table tbody tr').length")
        assert rows == len(shown)
        caption = page.evaluate("document.getElementById('pair-caption').textContent")
        assert caption.startswith(f"{len(shown)} of {len(candidates.complete([x, y]))} candidates are on this front")
    assert page.evaluate(TITLES) == ["Accuracy, more is better", "Parameters, less is better"]


STAR = "document.querySelector('#plot-pair').data.find(trace => trace.name === 'best trade-off').customdata[0]"
CAPTION = "document.getElementById('pair-caption').textContent"


def test_best_trade_off_is_that_of_equal_weights_where_the_search_has_none(page, candidates):
    rows = {row["network"]: row["arch_id"] for row in trade_offs_of({}, candidates)}
    choose(page, "x", "latency_ms")
    assert "weighed alike" in page.evaluate(CAPTION)
    assert candidates.rows[page.evaluate(STAR)]["arch_id"] == rows["trade-off, latency"]
    choose(page, "y", "macs")
    assert "weighed alike" in page.evaluate(CAPTION)
    archive = ParetoArchive(Pareto([Objective(name="latency_ms"), Objective(name="macs")]))
    for index in candidates.complete(["latency_ms", "macs"]):
        row = candidates.rows[index]
        archive.add(str(index), Architecture.from_json(row["architecture"]), Evaluation(metrics=row["metrics"]))
    assert page.evaluate(STAR) == int(archive.best_trade_off().trial_id)


def test_best_trade_off_is_that_of_the_search_where_it_weighs(browser, made_up_run, candidates, tmp_path):
    run = RunDirectory.open(shutil.copytree(made_up_run(400).path, tmp_path / "run"))
    names = ["accuracy", "latency_ms"]
    index = candidates.front(names)[-1]
    row = candidates.rows[index]
    metrics = {name: row["metrics"][name] for name in names}
    told = {"network": "trade-off, latency", "arch_id": row["arch_id"], "trial_id": "0", "metrics": metrics}
    run.update(trade_offs=[told | {"saves": {}}])
    browser.load(write_report(run), until=DRAWN)
    choose(browser, "x", "latency_ms")
    assert "as the search weighs the objectives" in browser.evaluate(CAPTION)
    assert browser.evaluate(STAR) == index


def test_hover_tells_architecture_and_figures_as_text(page, candidates):
    text = page.evaluate(f"{FRONT}.hovertext[0]")
    index = page.evaluate(f"{FRONT}.customdata[0]")
    assert candidates.rows[index]["arch_id"] in text
    for label in ("Accuracy: ", "MACs: ", "Latency: ", "Energy of training: "):
        assert label in text
    place = page.evaluate(
        "(() => { const box = document.querySelector('#plot-pair .plotly .scatterlayer .trace:last-of-type .point')"
        ".getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    page.wait("document.querySelector('#plot-pair .hoverlayer .hovertext')")


def test_chosen_network_is_told_and_marked_everywhere(page, candidates):
    index = page.evaluate(f"{FRONT}.customdata[2]")
    choose(page, "network", str(index))
    arch_id = candidates.rows[index]["arch_id"]
    assert page.evaluate("document.querySelector('#picked h3').textContent") == f"Network {arch_id}"
    assert page.evaluate("document.querySelectorAll('#picked dt').length") > 100  # with its choices
    for plot in ("pair", "parallel"):
        names = page.evaluate(f"document.querySelector('#plot-{plot}').data.map(trace => trace.name)")
        assert "chosen network" in names


def test_front_view_and_scales_change_the_axes(page):
    whole = page.evaluate("document.querySelector('#plot-pair').layout.yaxis.range")
    choose(page, "view", "front")
    near = page.evaluate("document.querySelector('#plot-pair').layout.yaxis.range")
    assert near != whole
    choose(page, "scale", "linear")
    assert page.evaluate("document.querySelector('#plot-pair').layout.xaxis.type") == "linear"
    choose(page, "scale", "log")
    assert page.evaluate("document.querySelector('#plot-pair').layout.xaxis.type") == "log"


def test_order_shows_failures_and_the_best_so_far(page, candidates):
    best = page.evaluate("document.querySelector('#plot-order').data.find(t => t.name === 'best so far').y")
    assert best == sorted(best)
    accuracies = candidates.metrics["accuracy"][candidates.complete(["accuracy"])]
    assert best[-1] == pytest.approx(np.max(accuracies))
    names = page.evaluate("document.querySelector('#plot-order').data.map(trace => trace.name)")
    assert {"infeasible", "failed"} <= set(names)


def test_everything_can_be_reached_by_keyboard(page):
    reached = []
    for _ in range(12):
        page.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert reached[0] == "skip"
    assert {"choose-x", "choose-y", "choose-scale", "choose-view"} <= set(reached)
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.evaluate("document.getElementById('choose-x').focus()")
    page.press("ArrowDown")
    assert page.evaluate("document.getElementById('choose-x').value") == "latency_ms"
    assert page.evaluate(TITLES)[0] == "Latency (ms), less is better"


def test_dark_recolours_page_and_plots(page):
    colour = "getComputedStyle(document.body).backgroundColor"
    paper = "document.querySelector('#plot-pair').layout.paper_bgcolor"
    light = page.evaluate(f"[{colour}, {paper}]")
    page.color_scheme("dark")
    page.wait(f"{paper} !== '{light[1]}' && {DRAWN}")
    assert page.evaluate(f"[{colour}, {paper}]") == ["rgb(20, 24, 29)", "#14181d"]


@pytest.mark.parametrize("width", [375, 320])
def test_phone_has_no_sideways_scrolling(page, width):
    page.size(width, 800, is_mobile=True)
    page.wait(DRAWN)
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('#plot-parallel').data[1].x.slice(0, 3).every(x => x <= 1)")


def test_markup_in_names_stays_text(browser, full_run, make_evaluation):
    markup = "<img src=x onerror=alert(1)><b>bold</b>"
    rows = [
        make_evaluation(n, metrics={"accuracy": n / 9, "macs": n, markup: 2.0 * n}, selected=False)
        | {"trial_id": markup}
        for n in range(9)
    ]
    for row in rows:
        row["architecture"] = {"space": "s", "choices": {markup: markup if int(row["sample_id"][1:]) % 2 else "other"}}
    full_run.append_evaluations(rows)
    browser.load(write_report(full_run), until=DRAWN)
    choose(browser, "y", markup)
    choose(browser, "order", markup) if browser.evaluate("Boolean(document.getElementById('choose-order'))") else None
    choose(browser, "network", browser.evaluate("document.querySelector('#choose-network option:last-child').value"))
    assert browser.evaluate("document.querySelectorAll('img, .plot b, #picked b, #pair-table b').length") == 0
    assert browser.problems == []


def test_time_to_load_ten_thousand_evaluations_is_told(browser, made_up_run, capsys):
    report = write_report(made_up_run(10_000))
    seconds = browser.load(report, until=DRAWN)
    assert report.stat().st_size < 8_000_000
    assert browser.problems == []
    drawn = browser.evaluate("document.querySelectorAll('#plot-pair .point').length")
    on_front = browser.evaluate(f"{FRONT}.customdata")
    values = browser.evaluate("JSON.parse(document.getElementById('candidates').textContent)")
    ok = [n for n, kind in enumerate(values["kinds"]) if kind == "k"]
    points = [(values["values"]["macs"][n], -values["values"]["accuracy"][n]) for n in ok]
    assert sorted(on_front) == [ok[n] for n in front_indices(points)]
    assert len(on_front) < drawn < 2500
    with capsys.disabled():
        print(f"\n10,000 evaluations: {report.stat().st_size / 1e6:.2f} MB, drawn in {seconds:.2f} s")
