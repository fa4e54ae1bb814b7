"use strict";
// Draws the figures, colours them from the page's CSS (again when light and dark change), and switches cost and trial.
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const options = {
    displaylogo: false,
    responsive: true,
    plotlyServerURL: "",
    modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
  };
  const ALL_TRIALS = "";

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function traceColour(meta) {
    if (meta.role === "front") return colour("--front");
    if (meta.role === "initial") return colour("--initial");
    if (meta.role === "found") return colour("--found");
    return colour(`--series-${meta.series % 6}`);
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
    else if (trace.mode.includes("lines")) result.line = { color: own };
    if (trace.marker) {
      result.marker = { ...trace.marker, color: own };
      if (trace.marker.line) result.marker.line = { ...trace.marker.line, color: colour("--paper") };
    }
    return result;
  }

  function axis(given, extra) {
    const line = colour("--line");
    const merged = { ...given, ...extra };
    merged.title = { ...merged.title, standoff: 10 };
    return { ...merged, gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true };
  }

  function laidOut(figure, chosen, traces) {
    const layout = figure.layout;
    const cost = layout.meta.costs && layout.meta.costs[chosen.cost];
    const x = cost ? { title: { text: cost.title }, tickformat: cost.tickformat } : {};
    const isNarrow = matchMedia("(max-width: 44rem)").matches;
    const entries = traces.filter((trace) => trace.visible && trace.showlegend !== false).length;
    const result = {
      ...layout,
      height: layout.height + (isNarrow ? 20 * entries : 0),  // there the legend has a line for each
      paper_bgcolor: colour("--paper"),
      plot_bgcolor: colour("--paper"),
      font: { color: colour("--ink"), family: getComputedStyle(document.body).fontFamily, size: 13 },
      hoverlabel: { ...layout.hoverlabel, bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--ink") },
      xaxis: axis(layout.xaxis, x),
      yaxis: axis(layout.yaxis),
    };
    if (layout.yaxis2) result.yaxis2 = axis(layout.yaxis2);
    return result;
  }

  function draw(figure) {
    const chosen = choices(figure.id);
    if (chosen.cost === null && figure.layout.meta.costs) chosen.cost = Object.keys(figure.layout.meta.costs)[0];
    const traces = figure.data.map((trace) => styled(trace, chosen));
    Plotly.react(figure.id, traces, laidOut(figure, chosen, traces), options);
  }

  for (const figure of figures) draw(figure);
  for (const select of document.querySelectorAll("select[data-figure]")) {
    select.addEventListener("change", () => draw(figures.find((figure) => figure.id === select.dataset.figure)));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => figures.forEach(draw));
})();
