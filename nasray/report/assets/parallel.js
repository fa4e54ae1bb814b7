"use strict";
// Parallel coordinates: an axis for each objective and each main choice, better is up; on a phone axes lie on their
// sides, one below the other.
(function () {
  const { data, metrics, choice, hover, write } = Candidates;
  const place = document.querySelector('[data-plot="parallel"]');
  if (!place) return;
  const given = data.parallel;

  function metricAxis(name) {
    const metric = metrics.get(name);
    const values = [...given.front, ...given.others].map((index) => data.values[name][index]);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const isLog = least > 0 && most / least > 100;
    const scaled = (value) => (isLog ? Math.log(value / least) / Math.log(most / least) : (value - least) / (most - least || 1));
    const [top, bottom] = metric.more ? [most, least] : [least, most];
    return {
      heading: `${metric.label}${isLog ? " (log)" : ""}`,
      at: (index) => (metric.more ? scaled(data.values[name][index]) : 1 - scaled(data.values[name][index])),
      ticks: [[0, write(name, bottom)], [1, write(name, top)]],
    };
  }

  function choiceAxis({ name, explained }) {
    const column = data.choices.find((found) => found.name === name);
    if (!column) return null;
    const drawn = [...given.front, ...given.others].map((index) => choice(column, index));
    const present = [...new Set(drawn)].sort((a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : 1));
    const height = (value) => (present.length > 1 ? present.indexOf(value) / (present.length - 1) : 0.5);
    const shown = present.length <= 8 ? present : [present[0], present[present.length - 1]];
    const ends = new Set(present.map((value) => /~\d+$/.exec(String(value))?.[0]));
    const end = ends.size === 1 ? [...ends][0] || "" : "";  // the same source for all, as of an edge, tells nothing
    return {
      heading: `${name}\n${(100 * explained).toFixed(0)} %`,
      at: (index) => height(choice(column, index)),
      ticks: shown.map((value) => [height(value), String(value).slice(0, String(value).length - end.length)]),
    };
  }

  function line(axes, index, isFlat) {
    const along = axes.map((_, at) => at);
    const up = axes.map((axis) => axis.at(index));
    return isFlat ? { x: up, y: along.map((at) => axes.length - 1 - at) } : { x: along, y: up };
  }

  // Lines of one kind are one trace, with gaps between them: hundreds of traces would be slow.
  function bundle(axes, indices, isFlat, more) {
    const [x, y, hovertext, customdata] = [[], [], [], []];
    for (const index of indices) {
      const own = line(axes, index, isFlat);
      const text = hover(index, more.heading);
      x.push(...own.x, null);
      y.push(...own.y, null);
      hovertext.push(...axes.map(() => text), "");
      customdata.push(...axes.map(() => index), null);
    }
    return { type: "scatter", x, y, hovertext, customdata, hoverinfo: "text", ...more.trace };
  }

  function short(text, most) {
    return text.length > most ? `${text.slice(0, most - 1)}\u2026` : text;
  }

  function annotations(axes, isFlat) {
    const text = (content, where) => ({ text: Report.escaped(content).replace(/\n/g, "<br>"), showarrow: false, font: { size: 11 }, bgcolor: Report.colour("--paper"), borderpad: 1, opacity: 0.9, ...where });
    return axes.flatMap((axis, at) => {
      const along = isFlat ? axes.length - 1 - at : at;
      const lines = axis.heading.split("\n").map((part) => short(part, isFlat ? 44 : 18));
      const heading = text(isFlat ? lines.join(", ") : lines.join("\n"), isFlat ? { x: 0, y: along, xanchor: "left", yanchor: "bottom", yshift: 16, font: { size: 12 } } : { x: along, y: 1, yanchor: "bottom", yshift: 20, font: { size: 12 } });
      const ticks = axis.ticks.map(([height, label]) => {
        const end = height === 0 ? "bottom" : height === 1 ? "top" : "middle";
        if (isFlat) return text(short(label, Math.max(5, Math.floor(44 / axis.ticks.length))), { x: height, y: along, yanchor: "top", yshift: -3, xanchor: { bottom: "left", top: "right", middle: "center" }[end], font: { size: 10 } });
        return text(short(label, 14), { x: along, y: height, yanchor: { bottom: "top", top: "bottom", middle: "middle" }[end], yshift: { bottom: -2, top: 2, middle: 0 }[end] });
      });
      return [heading, ...ticks];
    });
  }

  function draw() {
    const isFlat = Report.isNarrow();
    const axes = [...given.metrics.map(metricAxis), ...given.choices.map(choiceAxis).filter(Boolean)];
    const ink = Report.colour("--front");
    const thin = { mode: "lines", name: "beaten by others", line: { width: 1, dash: "dot", color: Report.colour("--beaten") }, opacity: 0.45 };
    const thick = { mode: "lines+markers", name: "on the front", line: { width: 2, color: Report.colour("--series-0") }, marker: { symbol: "diamond", size: 6, color: Report.colour("--series-0") }, opacity: 0.75 };
    const traces = [bundle(axes, given.others, isFlat, { trace: thin }), bundle(axes, given.front, isFlat, { heading: "on the front", trace: thick })];
    const picked = Candidates.picked();
    if (picked !== null && given.metrics.every((name) => data.values[name][picked] !== null)) {
      const trace = { mode: "lines+markers", name: "chosen network", line: { width: 5, color: Report.colour("--found") }, marker: { symbol: "star", size: 15, color: Report.colour("--found"), line: { width: 1, color: ink } } };
      traces.push(bundle(axes, [picked], isFlat, { heading: "chosen network", trace }));
    }
    const bars = axes.map((_, at) => {
      const ends = isFlat ? { x0: 0, x1: 1, y0: axes.length - 1 - at, y1: axes.length - 1 - at } : { x0: at, x1: at, y0: 0, y1: 1 };
      return { type: "line", layer: "below", line: { color: Report.colour("--muted"), width: 1.5 }, ...ends };
    });
    const hidden = { visible: false, fixedrange: true };
    const layout = {
      height: isFlat ? 90 * axes.length + 60 : 460,
      hovermode: "closest",
      margin: isFlat ? { l: 12, r: 12, t: 50, b: 70 } : { l: 50, r: 50, t: 80, b: 66 },
      xaxis: { ...hidden, range: isFlat ? [-0.02, 1.02] : [-0.15, axes.length - 0.85] },
      yaxis: { ...hidden, range: isFlat ? [-0.6, axes.length - 0.4] : [-0.03, 1.03] },
      shapes: bars,
      annotations: annotations(axes, isFlat),
    };
    Report.show(place.id, traces, layout);
  }

  let isHeard = false;
  Report.add(place.id, () => {
    draw();
    if (isHeard) return;
    isHeard = true;
    place.on("plotly_click", (event) => {
      const index = event.points[0].customdata;
      if (index !== null && index !== undefined) Candidates.pick(index);
    });
  });
  Candidates.onPick(draw);
})();
