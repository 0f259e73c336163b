// Filters: chips for columns with few categories, ranges for numbers.
import { breakable, byId, element, number } from "./dom.js";
import { columnOptions } from "./menu.js";

const CHIPS = ["label", "split", "triage", "is_find", "top_line"];
const RANGES = ["z", "score", "q_value", "strongest_line_snr", "median_snr"];
const MOST_CHIPS = 20;

export class Filters {
  constructor(survey) {
    this.survey = survey;
    this.ranges = RANGES.filter((name) => survey.columns.get(name)?.kind === "number");
    byId("filters-clear").addEventListener("click", () => {
      for (const name of [...survey.filters.keys()]) survey.setFilter(name, null);
      this.draw();
    });
    survey.addEventListener("labels", () => this.draw());
    this.draw();
  }

  draw() {
    const { survey } = this;
    const chips = CHIPS.map((name) => survey.columns.get(name)).filter((column) => column?.kind === "category");
    const fits = (column) => column.categories.length <= MOST_CHIPS && new Set(column.data).size > 1;
    byId("filters").replaceChildren(
      ...this.ranges.map((name) => this.range(survey.columns.get(name))),
      this.chooser(),
      ...chips.filter(fits).map((column) => this.chips(column)),
    );
  }

  range(column) {
    const [low, high] = this.survey.range(column.name);
    const filter = this.survey.filters.get(column.name);
    const input = (end, limit, label) => element("input", {
      type: "number", step: "any", placeholder: number(limit, 3), "aria-label": `${column.name}, ${label}`,
      "data-column": column.name, "data-end": end,
      value: filter && Number.isFinite(filter[end]) ? filter[end] : undefined,
      onchange: () => this.readRange(column.name),
    });
    return element("fieldset", { class: "range", title: column.description },
      element("legend", {}, ...breakable(column.name), column.unit && element("span", { class: "soft" }, ` ${column.unit}`)),
      histogram(column.data, low, high), input("low", low, "at least"), element("span", { "aria-hidden": "true" }, "–"), input("high", high, "at most"));
  }

  readRange(name) {
    const value = (end) => byId("filters").querySelector(`[data-column="${CSS.escape(name)}"][data-end=${end}]`).value;
    const [low, high] = [value("low"), value("high")];
    const filter = { low: low === "" ? -Infinity : Number(low), high: high === "" ? Infinity : Number(high) };
    this.survey.setFilter(name, low === "" && high === "" ? null : filter);
  }

  chooser() {
    const left = [...this.survey.columns.values()].filter((column) => column.kind === "number" && !this.ranges.includes(column.name));
    const choose = (event) => { this.ranges.push(event.target.value); this.draw(); };
    return element("select", { "aria-label": "Add a range of another column", onchange: choose },
      element("option", { value: "" }, "Range of another column …"),
      ...columnOptions(this.survey, left));
  }

  chips(column) {
    const { survey } = this;
    const chosen = survey.filters.get(column.name)?.codes;
    const counts = new Map();
    for (const code of column.data) counts.set(code, (counts.get(code) ?? 0) + 1);
    const codes = [...column.categories.keys(), -1].filter((code) => counts.has(code));
    const toggle = (code) => {
      const next = new Set(survey.filters.get(column.name)?.codes ?? []);
      if (!next.delete(code)) next.add(code);
      survey.setFilter(column.name, next.size ? { codes: next } : null);
      this.draw();
      byId("filters").querySelector(`[data-chip="${CSS.escape(`${column.name}:${code}`)}"]`)?.focus();
    };
    return element("fieldset", { class: "chips", title: column.description }, element("legend", {}, column.name),
      ...codes.map((code) => element("button", { type: "button", class: "chip", "data-chip": `${column.name}:${code}`,
        "aria-pressed": String(chosen?.has(code) ?? false), onclick: () => toggle(code) },
      code < 0 ? "none" : column.categories[code], element("span", { class: "soft num" }, ` ${counts.get(code)}`))));
  }
}

// Histogram of a column, beside the two inputs.
function histogram(data, low, high) {
  const bins = new Array(40).fill(0);
  for (const value of data) if (Number.isFinite(value)) bins[Math.min(39, Math.floor(((value - low) / (high - low || 1)) * 40))]++;
  const most = Math.max(...bins);
  const canvas = element("canvas", { width: 160, height: 22, "aria-hidden": "true" });
  const draw = canvas.getContext("2d");
  draw.fillStyle = "#8a94a3"; // legible on light and dark backgrounds
  bins.forEach((count, i) => { const height = 22 * Math.sqrt(count / most); draw.fillRect(4 * i, 22 - height, 3, height); });
  return canvas;
}
