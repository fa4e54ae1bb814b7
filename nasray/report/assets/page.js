"use strict";
// Draws the figures one after the other, coloured from the page's CSS (again when light and dark change). Those that
// the page holds ready-made are here; other scripts add their own with Report.add.
const Report = (function () {
  const plots = [];
  const options = {
    displaylogo: false,
    responsive: true,
    plotlyServerURL: "",
    modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
  };

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function isNarrow() {
    return matchMedia("(max-width: 44rem)").matches;
  }

  // Text that plotly shows may hold markup.
  function escaped(text) {
    return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  function axis(given, extra) {
    const line = colour("--line");
    const merged = { ...given, ...extra };
    merged.title = { ...merged.title, standoff: 10 };
    return { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true, ...merged };
  }

  // Plotly's own template has colours that would stand against the page's.
  function layout(given, traces) {
    const entries = traces.filter((trace) => trace.visible !== false && trace.showlegend !== false).length;
    const isTall = isNarrow() && given.showlegend !== false;
    return {
      template: {},
      margin: { l: 64, r: 12, t: 36, b: 48 },
      ...given,
      legend: { orientation: "h", traceorder: "normal", yref: "container", y: 0, yanchor: "bottom", x: 0 },
      height: given.height + (isTall ? 20 * entries : 0),  // there the legend has a line for each
      paper_bgcolor: colour("--paper"),
      plot_bgcolor: colour("--paper"),
      font: { color: colour("--ink"), family: getComputedStyle(document.body).fontFamily, size: 13 },
      hoverlabel: { align: "left", bgcolor: colour("--panel"), bordercolor: colour("--muted"), font: { color: colour("--ink") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--ink") },
    };
  }

  function show(id, traces, given) {
    return Plotly.react(id, traces, layout(given, traces), options);
  }

  function add(id, draw) {
    plots.push({ id, draw });
  }

  // One after the other, so that the page answers meanwhile; the first ones on the page come first.
  function drawAll() {
    const places = [...document.querySelectorAll(".plot")].map((place) => place.id);
    const waiting = [...plots].sort((a, b) => places.indexOf(a.id) - places.indexOf(b.id));
    document.documentElement.dataset.drawn = "";
    (function next() {
      const plot = waiting.shift();
      if (!plot) {
        document.documentElement.dataset.drawn = "all";
        return;
      }
      plot.draw();
      setTimeout(next);
    })();
  }

  document.addEventListener("DOMContentLoaded", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  matchMedia("(max-width: 44rem)").addEventListener("change", drawAll);
  return { add, axis, colour, escaped, isNarrow, show };
})();

// The figures that the page holds ready-made, with selectors for cost and trial where they offer them.
(function () {
  const block = document.getElementById("figures");
  if (!block) return;
  const figures = JSON.parse(block.textContent);
  const ALL_TRIALS = "";

  function traceColour(meta) {
    if (meta.role === "front") return Report.colour("--front");
    if (meta.role === "initial") return Report.colour("--initial");
    if (meta.role === "found") return Report.colour("--found");
    return Report.colour(`--series-${meta.series % 6}`);
  }

  function choices(id) {
    const chosen = { cost: null, trial: ALL_TRIALS };
    for (const select of document.querySelectorAll(`select[data-figure="${id}"]`)) {
      chosen[select.dataset.choice] = select.value;
    }
    return chosen;
  }

  // A front belongs to one trial or to all of them together; samples and networks also show among all.
  function isShown(meta, chosen) {
    if (meta.cost && meta.cost !== chosen.cost) return false;
    if (meta.role === "front") return meta.trial === chosen.trial;
    return chosen.trial === ALL_TRIALS || meta.trial === ALL_TRIALS || meta.trial === chosen.trial;
  }

  function styled(trace, chosen) {
    const own = traceColour(trace.meta);
    const result = { ...trace, visible: isShown(trace.meta, chosen) };
    if (trace.meta.columns && chosen.cost) result.x = trace.meta.columns[chosen.cost];
    if (trace.line) result.line = { ...trace.line, color: own };
    else if (trace.mode && trace.mode.includes("lines")) result.line = { color: own };
    if (trace.text && Report.isNarrow()) result.textposition = "none";  // there is no room beside the bars
    if (trace.marker) {
      result.marker = { ...trace.marker, color: own };
      if (trace.marker.line) result.marker.line = { ...trace.marker.line, color: Report.colour("--paper") };
      if (trace.marker.pattern) {
        const ink = { fillmode: "overlay", fgcolor: Report.colour("--ink"), fgopacity: 0.5, size: 9, solidity: 0.12 };
        result.marker.pattern = { ...trace.marker.pattern, ...ink };
      }
    }
    return result;
  }

  function draw(figure) {
    const chosen = choices(figure.id);
    const given = figure.layout;
    if (chosen.cost === null && given.meta.costs) chosen.cost = Object.keys(given.meta.costs)[0];
    const traces = figure.data.map((trace) => styled(trace, chosen));
    const cost = given.meta.costs && given.meta.costs[chosen.cost];
    const x = cost ? { title: { text: cost.title }, tickformat: cost.tickformat } : {};
    const axes = { xaxis: Report.axis(given.xaxis, x), yaxis: Report.axis(given.yaxis) };
    if (given.yaxis2) axes.yaxis2 = Report.axis(given.yaxis2);
    Report.show(figure.id, traces, { ...given, ...axes });
  }

  for (const figure of figures) Report.add(figure.id, () => draw(figure));
  for (const select of document.querySelectorAll("select[data-figure]")) {
    select.addEventListener("change", () => draw(figures.find((figure) => figure.id === select.dataset.figure)));
  }
})();
