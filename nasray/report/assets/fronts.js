"use strict";
// The candidates in two figures of the reader's choice, with their front, and each candidate in its order.
(function () {
  const { data, metrics, element, having, hover, spread, title, write } = Candidates;
  const MOST_ROWS = 300;
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "pentagon"];
  const FOUND = ["hexagram", "star-diamond", "star-square", "star-triangle-up", "hourglass", "bowtie"];
  const MARK = { initial: "--initial", found: "--found", "trade-off": "--found" };
  const place = (kind) => document.querySelector(`[data-plot="${kind}"]`);
  const chosen = (name) => document.getElementById(`choose-${name}`).value;

  // As nasray.pareto.front_indices: of candidates that are equal in both figures the first.
  function front(indices, x, y) {
    const [xs, ys] = [data.values[x], data.values[y]];
    const [signX, signY] = [x, y].map((name) => (metrics.get(name).more ? -1 : 1));
    const ordered = [...indices].sort((a, b) => signX * (xs[a] - xs[b]) || signY * (ys[a] - ys[b]) || a - b);
    let best = Infinity;
    const found = ordered.filter((index) => {
      if (signY * ys[index] >= best) return false;
      best = signY * ys[index];
      return true;
    });
    return signX < 0 ? found.reverse() : found;
  }

  // As nasray.archive.ParetoArchive.best_trade_off with equal weights.
  function nearestIdeal(onFront, names) {
    const terms = names.map((name) => {
      const metric = metrics.get(name);
      const values = onFront.map((index) => data.values[name][index]);
      const best = metric.more ? Math.max(...values) : Math.min(...values);
      const guess = metric.more ? best : Math.min(0, best);
      const known = metric.ideal === null ? guess : metric.ideal;
      const ideal = metric.more ? Math.max(known, best) : Math.min(known, best);
      const scale = Math.max(...values.map((value) => Math.abs(value - ideal))) || 1;
      return values.map((value) => ((value - ideal) / scale) ** 2);
    });
    const squares = onFront.map((_, at) => terms.reduce((sum, term) => sum + term[at], 0));
    return onFront[squares.indexOf(Math.min(...squares))];
  }

  function points(indices, x, y, more) {
    return {
      type: "scatter",
      mode: "markers",
      x: indices.map((index) => data.values[x][index]),
      y: indices.map((index) => data.values[y][index]),
      customdata: indices,
      hovertext: indices.map((index) => hover(index, more.heading)),
      hoverinfo: "text",
      ...more.trace,
    };
  }

  function isWide(values) {
    const least = Math.min(...values);
    return least > 0 && Math.max(...values) / least > 100;
  }

  // The extent of the front with some room around it, as plotly wants it: in powers of ten on a logarithmic axis.
  function around(values, isLog) {
    const scaled = isLog ? values.map(Math.log10) : values;
    const [least, most] = [Math.min(...scaled), Math.max(...scaled)];
    const room = 0.15 * (most - least) || Math.abs(most) * 0.1 || 1;
    return [least - room, most + room];
  }

  // A narrow logarithmic axis has room for powers of ten only.
  function logTicks(isLog, values) {
    return isLog && Report.isNarrow() && Math.max(...values) >= 10 * Math.min(...values) ? { dtick: 1 } : {};
  }

  function axisOf(name, indices, onFront) {
    const scale = chosen("scale");
    const values = indices.map((index) => data.values[name][index]);
    const canLog = values.length > 0 && Math.min(...values) > 0;
    const isLog = canLog && (scale === "log" || (scale === "auto" && isWide(values)));
    const tick = metrics.get(name).tick;
    const range = chosen("view") === "front" && onFront.length > 1 ? { range: around(onFront.map((index) => data.values[name][index]), isLog) } : { autorange: true };
    return Report.axis({ title: { text: title(name) }, tickformat: tick, type: isLog ? "log" : "linear", ...range, ...logTicks(isLog, values) });
  }

  function clouds(ok, onFront, x, y) {
    const isOn = new Set(onFront);
    const others = ok.filter((index) => !isOn.has(index));
    const trials = data.trials.length && chosen("trial") === "" ? data.trials : null;
    if (!trials || trials.length > SYMBOLS.length) {
      const drawn = spread(others, data.drawn);
      const trace = { name: "beaten by others", marker: { symbol: "circle", size: 5, opacity: 0.4, color: Report.colour("--series-0") } };
      return { traces: [points(drawn, x, y, { trace })], drawn: drawn.length, others: others.length };
    }
    const groups = trials.map((_, trial) => spread(others.filter((index) => data.trial[index] === trial), Math.floor(data.drawn / trials.length)));
    const traces = groups.map((drawn, trial) => {
      const marker = { symbol: SYMBOLS[trial], size: 6, opacity: 0.4, color: Report.colour(`--series-${trial}`) };
      return points(drawn, x, y, { trace: { name: Report.escaped(trials[trial]), marker } });
    });
    return { traces, drawn: groups.reduce((sum, drawn) => sum + drawn.length, 0), others: others.length };
  }

  function outside(kind, name, symbol, x, y, trial) {
    const drawn = spread(having([x, y], kind, trial), Math.floor(data.drawn / 5));
    const marker = { symbol, size: 7, opacity: 0.6, color: Report.colour("--muted"), line: { width: 1.5, color: Report.colour("--muted") } };
    return drawn.length ? [points(drawn, x, y, { heading: name, trace: { name, marker } })] : [];
  }

  function pathTraces(x, y, trial) {
    const has = data.selected.filter((index) => data.values[x][index] !== null && data.values[y][index] !== null);
    const groups = new Map();
    for (const index of has) {
      const own = data.trials.length ? data.trial[index] : 0;
      if (trial === null || own === trial) groups.set(own, [...(groups.get(own) || []), index]);
    }
    return [...groups].map(([own, indices]) => {
      const color = Report.colour(`--series-${own % 6}`);
      const name = data.trials.length ? `best of each iteration, ${Report.escaped(data.trials[own])}` : "best of each iteration";
      const marker = { symbol: SYMBOLS[own % 6], size: 9, color, line: { width: 1, color: Report.colour("--paper") } };
      return points(indices, x, y, { heading: "best of its iteration", trace: { mode: "lines+markers", name, marker, line: { width: 1.5, color } } });
    });
  }

  function markTraces(x, y) {
    let found = 0;
    const shown = data.marks.filter((mark) => mark.kind !== "trade-off" && mark.metrics[x] !== undefined && mark.metrics[y] !== undefined);
    return shown.map((mark) => {
      const symbol = mark.kind === "initial" ? "star" : FOUND[found++ % FOUND.length];
      const lines = [mark.label, mark.arch_id, ...Object.entries(mark.metrics).map(([name, value]) => `${name}: ${write(name, value)}`)];
      return {
        type: "scatter",
        mode: "markers",
        x: [mark.metrics[x]],
        y: [mark.metrics[y]],
        name: Report.escaped(mark.kind === "initial" ? "initial network" : `found: ${mark.label}`),
        hovertext: [lines.map(Report.escaped).join("<br>")],
        hoverinfo: "text",
        marker: { symbol, size: 16, color: Report.colour(MARK[mark.kind]), line: { width: 1.5, color: Report.colour("--paper") } },
      };
    });
  }

  function bestOf(onFront, x, y) {
    const told = data.marks.find((mark) => mark.pair && mark.pair.includes(x) && mark.pair.includes(y));
    const known = told && chosenTrial() === null ? data.ids.indexOf(told.arch_id) : -1;
    return known >= 0 ? { index: known, how: "as the search weighs the objectives" } : { index: nearestIdeal(onFront, [x, y]), how: "nearest to the best of both, weighed alike" };
  }

  function ring(index, x, y, more) {
    if (index === null || data.values[x][index] === null || data.values[y][index] === null) return [];
    return [points([index], x, y, more)];
  }

  function chosenTrial() {
    const select = document.getElementById("choose-trial");
    return select && select.value !== "" ? Number(select.value) : null;
  }

  function drawPair() {
    const [x, y, trial] = [chosen("x"), chosen("y"), chosenTrial()];
    const ok = having([x, y], "k", trial);
    const onFront = front(ok, x, y);
    const best = onFront.length ? bestOf(onFront, x, y) : null;
    const cloud = clouds(ok, onFront, x, y);
    const ink = Report.colour("--front");
    const shape = metrics.get(x).more ? "vh" : "hv";
    const frontTrace = { mode: "lines+markers", name: "front", line: { shape, dash: "dash", width: 2, color: ink }, marker: { symbol: "diamond", size: 8, color: ink } };
    const star = { name: "best trade-off", marker: { symbol: "star", size: 20, color: Report.colour("--found"), line: { width: 1.5, color: Report.colour("--ink") } } };
    const round = { name: "chosen network", marker: { symbol: "circle-open", size: 24, color: ink, line: { width: 3, color: ink } } };
    const traces = [
      ...cloud.traces,
      ...outside("i", "infeasible", "x-thin-open", x, y, trial),
      ...outside("f", "failed", "cross-thin-open", x, y, trial),
      ...pathTraces(x, y, trial),
      points(onFront, x, y, { heading: "on the front", trace: frontTrace }),
      ...markTraces(x, y),
      ...(best ? ring(best.index, x, y, { heading: "best trade-off", trace: star }) : []),
      ...ring(Candidates.picked(), x, y, { heading: "chosen network", trace: round }),
    ];
    const shownIndices = traces.flatMap((trace) => trace.customdata || []);
    const layout = { height: 560, hovermode: "closest", xaxis: axisOf(x, shownIndices, onFront), yaxis: axisOf(y, shownIndices, onFront) };
    Report.show(place("pair").id, traces, layout);
    tell(onFront, ok, cloud, best, x, y);
    listNetworks(onFront, x, y);
  }

  function tell(onFront, ok, cloud, best, x, y) {
    const others = cloud.drawn === cloud.others ? `all ${cloud.others} others` : `${cloud.drawn} of the ${cloud.others} others, evenly over the run,`;
    const text = !ok.length
      ? "No candidate that counts has both figures."
      : `${onFront.length} of ${ok.length} candidates are on this front; it and ${others} are drawn. Best trade-off (${best.how}): ` +
        `network ${data.ids[best.index]} with ${[y, x].map((name) => `${metrics.get(name).label} ${write(name, data.values[name][best.index])}`).join(" and ")}.`;
    document.getElementById("pair-caption").textContent = text;
    const names = [x, y, ...data.metrics.filter((metric) => metric.objective && metric.name !== x && metric.name !== y).map((metric) => metric.name)];
    const rows = spread(onFront, MOST_ROWS).map((index) => [data.ids[index], ...names.map((name) => write(name, data.values[name][index]))]);
    const some = rows.length < onFront.length ? `, ${rows.length} of them, evenly spread` : "";
    const caption = `The front of ${metrics.get(y).label} against ${metrics.get(x).label}: ${onFront.length} networks${some}`;
    document.getElementById("pair-table").replaceChildren(Candidates.table(caption, ["Network", ...names.map((name) => metrics.get(name).label)], rows));
  }

  function listNetworks(onFront, x, y) {
    const select = document.getElementById("choose-network");
    const picked = Candidates.picked();
    const listed = picked === null || onFront.includes(picked) ? onFront : [picked, ...onFront];
    const options = listed.map((index) => {
      const figures = [y, x].map((name) => write(name, data.values[name][index])).join(", ");
      return element("option", `${data.ids[index]}: ${figures}`, { value: index });
    });
    select.replaceChildren(element("option", "none", { value: "" }), ...options);
    select.value = picked === null ? "" : String(picked);
  }

  function showPicked() {
    const index = Candidates.picked();
    const panel = document.getElementById("picked");
    if (index === null) return panel.replaceChildren();
    const kind = { k: "counts", i: "infeasible", f: "failed" }[data.kinds[index]];
    const list = element("dl");
    const pairs = [
      ...(data.trials.length ? [["Trial", data.trials[data.trial[index]]]] : []),
      ["Candidate", `${index + 1} of ${data.ids.length}, ${kind}`],
      ...data.metrics.map((metric) => [metric.label, write(metric.name, data.values[metric.name][index])]),
      ...Candidates.choicesOf(index).map(([name, value]) => [name, String(value)]),
      ...(data.unlisted ? [["More", `${data.unlisted} choices, in evaluations.jsonl`]] : []),
    ];
    for (const [name, value] of pairs) {
      const group = element("div");
      group.append(element("dt", name), element("dd", value));
      list.append(group);
    }
    panel.replaceChildren(element("h3", `Network ${data.ids[index]}`), list);
  }

  // Every candidate in its order, the best so far, medians, and where others failed.
  function drawOrder() {
    const name = chosen("order");
    const values = data.values[name];
    const ok = having([name], "k", null);
    const sign = metrics.get(name).more ? -1 : 1;
    const best = [];
    for (const index of ok) {
      if (!best.length || sign * values[index] < sign * values[best[best.length - 1]]) best.push(index);
    }
    const blocks = new Map();
    for (const index of ok) {
      const block = Math.floor(index / data.block);
      blocks.set(block, [...(blocks.get(block) || []), values[index]]);
    }
    const medians = [...blocks].map(([block, own]) => [block, median(own), own.length]);
    const drawn = spread(ok, data.drawn);
    const numbered = (indices) => indices.map((index) => index + 1);
    const last = best.length ? [data.ids.length] : [];
    const bad = (kind, label, symbol) => {
      const indices = spread([...data.kinds].flatMap((letter, index) => (letter === kind ? [index] : [])), Math.floor(data.drawn / 5));
      const marker = { symbol, size: 8, color: Report.colour("--muted"), line: { width: 1.2, color: Report.colour("--muted") } };
      return indices.length ? [{ type: "scatter", mode: "markers", yaxis: "y2", name: label, x: numbered(indices), y: indices.map(() => label), hovertext: indices.map((index) => hover(index, label)), hoverinfo: "text", marker }] : [];
    };
    const failures = [...bad("i", "infeasible", "x-thin-open"), ...bad("f", "failed", "line-ns-open")];
    const traces = [
      { type: "scatter", mode: "markers", name: "candidate", x: numbered(drawn), y: drawn.map((index) => values[index]), customdata: drawn, hovertext: drawn.map((index) => hover(index)), hoverinfo: "text", marker: { symbol: "circle", size: 4, opacity: 0.4, color: Report.colour("--series-0") } },
      { type: "scatter", mode: "lines", name: "best so far", x: [...numbered(best), ...last], y: [...best.map((index) => values[index]), ...best.slice(-1).map((index) => values[index])], line: { shape: "hv", width: 2.5, color: Report.colour("--front") }, hoverinfo: "skip" },
      { type: "scatter", mode: "lines+markers", name: "median", x: medians.map(([block]) => Math.min((block + 0.5) * data.block, data.ids.length)), y: medians.map(([, middle]) => middle), hovertext: medians.map(([, middle, count]) => Report.escaped(`median of ${count}: ${write(name, middle)}`)), hoverinfo: "text", line: { dash: "dot", width: 1.5, color: Report.colour("--series-1") }, marker: { symbol: "square", size: 8, color: Report.colour("--series-1"), line: { width: 1, color: Report.colour("--paper") } } },
      ...failures,
    ];
    const isLog = isWide(ok.map((index) => values[index]));
    const foot = failures.length ? 0.06 + 0.05 * failures.length : 0;
    const layout = {
      height: 440,
      hovermode: "closest",
      xaxis: Report.axis({ title: { text: "Evaluation" }, anchor: failures.length ? "y2" : "y" }),
      yaxis: Report.axis({ title: { text: title(name) }, tickformat: metrics.get(name).tick, type: isLog ? "log" : "linear", domain: [foot, 1] }),
    };
    if (failures.length) layout.yaxis2 = Report.axis({ domain: [0, foot - 0.05], type: "category", showgrid: false, fixedrange: true });
    Report.show(place("order").id, traces, layout);
    const step = Math.max(1, Math.ceil(medians.length / 40));
    const rows = medians.filter((_, at) => at % step === 0).map(([block, middle, count]) => {
      const end = Math.min((block + 1) * data.block, data.ids.length);
      const upTo = best.filter((index) => index < end);
      return [`${block * data.block + 1} to ${end}`, String(count), write(name, middle), write(name, values[upTo[upTo.length - 1]])];
    });
    document.getElementById("order-table").replaceChildren(Candidates.table(`${metrics.get(name).label} in the order of evaluation`, ["Evaluations", "Of them count", "Median", "Best so far"], rows));
  }

  function median(values) {
    const ordered = [...values].sort((a, b) => a - b);
    const middle = ordered.length >> 1;
    return ordered.length % 2 ? ordered[middle] : (ordered[middle - 1] + ordered[middle]) / 2;
  }

  function listen(kind, draw, selects) {
    if (!place(kind)) return;
    let isHeard = false;
    Report.add(place(kind).id, () => {
      draw();
      if (isHeard) return;
      isHeard = true;
      place(kind).on("plotly_click", (event) => {
        const index = event.points.map((point) => point.customdata).find((found) => found !== undefined);
        if (index !== undefined) Candidates.pick(index);
      });
    });
    for (const name of selects) document.getElementById(`choose-${name}`).addEventListener("change", draw);
  }

  if (place("pair")) {
    if (data.trials.length > 1) {
      const options = data.trials.map((trial, number) => element("option", trial, { value: number }));
      document.getElementById("choose-trial").replaceChildren(element("option", "all", { value: "" }), ...options);
      document.getElementById("trial-label").hidden = false;
    }
    const network = document.getElementById("choose-network");
    network.addEventListener("change", () => Candidates.pick(network.value === "" ? null : Number(network.value)));
    Candidates.onPick(() => {
      showPicked();
      drawPair();
    });
  }
  listen("pair", drawPair, ["x", "y", "scale", "view", "trial"]);
  listen("order", drawOrder, ["order"]);
})();
