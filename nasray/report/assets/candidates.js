"use strict";
// What all plots of candidates share: the columns, how figures are written, and which network the reader has chosen.
const Candidates = (function () {
  const data = JSON.parse(document.getElementById("candidates").textContent);
  const CODES = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const metrics = new Map(data.metrics.map((metric) => [metric.name, metric]));
  const MISSING = "\u2013";
  const listeners = [];
  let picked = null;

  function fourDigits(value) {
    return Math.abs(value) >= 1e4 ? value.toFixed(0) : value === 0 ? "0" : String(Number(value.toPrecision(4)));
  }

  // As nasray.report.quantities writes them.
  function write(name, value) {
    if (value === null || value === undefined) return MISSING;
    const metric = metrics.get(name);
    if (name.includes("accuracy")) return `${(100 * value).toFixed(2)} %`;
    const unit = metric ? metric.unit : "";
    if (metric && metric.tick === "~s") {
      for (const [size, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "K"]]) {
        if (Math.abs(value) >= size) return `${fourDigits(value / size)} ${prefix}${unit}`;
      }
    }
    return `${fourDigits(value)} ${unit}`.trim();
  }

  function title(name) {
    const metric = metrics.get(name);
    const unit = metric.unit ? ` (${metric.unit})` : "";
    return `${Report.escaped(metric.label)}${unit}, ${metric.more ? "more" : "less"} is better`;
  }

  // A choice that most make alike holds the others only: a distance in two letters, and a code.
  function unpack(column) {
    const codes = Array(data.ids.length).fill(column.usual);
    for (let at = 0, index = -1; at < column.rare.length; at += 3) {
      index += CODES.indexOf(column.rare[at]) * CODES.length + CODES.indexOf(column.rare[at + 1]);
      codes[index] = column.rare[at + 2];
    }
    return codes;
  }

  function choice(column, index) {
    if (column.list) return column.list[index];
    if (!column.codes) column.codes = unpack(column);
    const code = column.codes[index];
    return code === "." ? null : column.values[CODES.indexOf(code)];
  }

  function choicesOf(index) {
    return data.choices.map((column) => [column.name, choice(column, index)]).filter(([, value]) => value !== null);
  }

  // The differences between networks are what a reader looks for; choices that all share tell nothing.
  const telling = data.choices.filter((column) => column.list || column.values.length > 1);

  function architecture(index, most) {
    const shown = telling.slice(0, most).map((column) => `${column.name} ${choice(column, index)}`);
    const rest = telling.length - shown.length;
    return rest > 0 ? [...shown, `and ${rest} more choices: click to see`] : shown;
  }

  function hover(index, heading) {
    const lines = [heading, data.ids[index], data.trials.length ? data.trials[data.trial[index]] : null];
    const iteration = data.iteration.length ? data.iteration[index] : null;
    if (iteration !== null && iteration !== undefined) lines.push(`iteration ${iteration}`);
    for (const metric of data.metrics) lines.push(`${metric.label}: ${write(metric.name, data.values[metric.name][index])}`);
    return [...lines, ...architecture(index, 8)].filter(Boolean).map(Report.escaped).join("<br>");
  }

  function pick(index) {
    picked = index;
    for (const listener of listeners) listener();
  }

  // Indices of candidates of a kind that have all these figures.
  function having(names, kinds, trial) {
    const columns = names.map((name) => data.values[name]);
    const found = [];
    for (let index = 0; index < data.ids.length; index += 1) {
      if (!kinds.includes(data.kinds[index])) continue;
      if (trial !== null && data.trial[index] !== trial) continue;
      if (columns.every((column) => column[index] !== null)) found.push(index);
    }
    return found;
  }

  function spread(indices, most) {
    if (indices.length <= most) return indices;
    return Array.from({ length: most }, (_, step) => indices[Math.floor((step * indices.length) / most)]);
  }

  function element(tag, text, attributes) {
    const made = document.createElement(tag);
    if (text !== null && text !== undefined) made.textContent = text;
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    return made;
  }

  // A table like those that the page holds ready-made.
  function table(caption, heads, rows) {
    const whole = element("table", null, { class: "cards dense" });
    whole.append(element("caption", caption));
    const head = whole.createTHead().insertRow();
    heads.forEach((text, at) => head.append(element("th", text, { scope: "col", class: at ? "number" : "text" })));
    const body = whole.createTBody();
    for (const cells of rows) {
      const row = body.insertRow();
      cells.forEach((text, at) => {
        const cell = element(at ? "td" : "th", null, at ? { class: "number", "data-label": heads[at] } : { scope: "row" });
        cell.append(element(at ? "span" : "code", text));
        row.append(cell);
      });
    }
    const place = element("div", null, { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" });
    place.append(whole);
    return place;
  }

  return {
    data,
    metrics,
    choice,
    choicesOf,
    element,
    having,
    hover,
    onPick: (listener) => listeners.push(listener),
    pick,
    picked: () => picked,
    spread,
    table,
    title,
    write,
  };
})();
