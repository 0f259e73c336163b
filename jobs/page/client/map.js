// The map of latents, by Plotly: 2-D with a lasso, and 3-D; coloured by any column.
import { byId, element, number } from "./dom.js";
import { inside, Lasso } from "./lasso.js";

// Okabe and Ito's colours, which colour-blind people tell apart; beyond them categories repeat in order.
const CATEGORIES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8ad1f", "#7a5195"];
const NONE = "#9aa3ad";
const REDRAW_MS = 60;
const PREFERRED = ["score", "label", "triage", "split", "q_value", "z", "median_snr", "top_line"];

export class LatentMap {
  constructor(survey, open) {
    [this.survey, this.open, this.dimensions] = [survey, open, 2];
    this.box = byId("map");
    this.tip = element("div", { class: "tip num", hidden: true });
    document.body.append(this.tip);
    new Lasso(this.box, {
      active: () => this.drawn && this.dimensions === 2 && this.box._fullLayout.dragmode === "lasso",
      chosen: (corners) => this.pick(corners),
      clicked: () => this.openHovered(this.hovered),
    });
    const colourable = [...survey.columns.values()].filter((column) => column.kind !== "text");
    const order = (column) => { const i = PREFERRED.indexOf(column.name); return i < 0 ? 99 : i; };
    colourable.sort((a, b) => order(a) - order(b));
    byId("map-colour").append(...colourable.map((column) => element("option", { value: column.name, title: column.description }, column.name)));
    byId("map-colour").addEventListener("change", () => this.draw());
    for (const button of document.querySelectorAll("[data-dimensions]")) {
      button.addEventListener("click", () => this.setDimensions(Number(button.dataset.dimensions)));
    }
    byId("lasso-clear").addEventListener("click", () => this.clearLasso());
    survey.addEventListener("shown", () => this.later());
    survey.addEventListener("labels", () => this.later());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => { if (this.drawn) Plotly.Plots.resize(this.box); else this.draw(); }).observe(this.box);
  }

  setDimensions(dimensions) {
    this.dimensions = dimensions;
    for (const button of document.querySelectorAll("[data-dimensions]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.dimensions) === dimensions));
    }
    this.clearLasso();
    Plotly.purge(this.box);
    this.drawn = false;
    this.draw();
  }

  clearLasso() {
    if (this.survey.lasso) this.survey.setLasso(null);
    this.draw();
  }

  // The gallery is first to follow a change: the map is redrawn when that is on the screen.
  later() {
    clearTimeout(this.pending);
    this.pending = setTimeout(() => this.draw(), REDRAW_MS);
  }

  axes() {
    return this.dimensions === 2 ? ["umap_1", "umap_2"] : ["umap3_1", "umap3_2", "umap3_3"];
  }

  async draw() {
    if (!window.Plotly || !this.box.clientWidth) return;
    const style = getComputedStyle(document.documentElement);
    this.ink = style.getPropertyValue("--soft").trim();
    this.grid = style.getPropertyValue("--line").trim();
    this.ground = style.getPropertyValue("--card").trim();
    const passing = new Set(this.survey.passing);
    const rest = this.survey.names.map((_, row) => row).filter((row) => !passing.has(row));
    this.rows = [...passing].reverse(); // the most unusual drawn last, on top
    const traces = [this.trace(rest, { color: NONE, opacity: 0.25, size: this.size(0.7) }, true), this.trace(this.rows, this.colours())];
    await Plotly.react(this.box, traces, this.layout(), {
      displaylogo: false, responsive: false, scrollZoom: true, doubleClick: "reset",
      modeBarButtonsToRemove: ["toImage", "autoScale2d", "select2d", "tableRotation", "resetCameraLastSave3d", "hoverClosest3d"],
    });
    if (!this.drawn) this.listen();
    this.drawn = true;
    this.box.dataset.ready = "true";
    const kind = (this.survey.value("embedding", 0) ?? "umap").toUpperCase();
    byId("map-note").textContent = `${kind} of the latents. ${this.dimensions === 2 ? "Drag a lasso for a subset; click a point for its galaxy." : "Drag to turn; click a point for its galaxy."} Only small distances mean something.`;
  }

  size(factor = 1) {
    const base = this.survey.count > 3000 ? 4 : this.survey.count > 500 ? 6 : 9;
    return factor * (this.dimensions === 3 ? base * 0.7 : base);
  }

  trace(rows, marker, quiet = false) {
    const [x, y, z] = this.axes().map((name) => { const { data } = this.survey.columns.get(name); return rows.map((row) => data[row]); });
    const trace = { mode: "markers", x, y, marker, showlegend: false, customdata: rows };
    trace.hoverinfo = quiet ? "skip" : "none";
    if (this.dimensions === 3) return { ...trace, type: "scatter3d", z };
    const { lasso } = this.survey;
    const selectedpoints = lasso && !quiet ? rows.flatMap((row, i) => (lasso.has(row) ? [i] : [])) : null;
    return { ...trace, type: "scattergl", selectedpoints, unselected: { marker: { opacity: 0.15 } } };
  }

  showTip(row, { clientX, clientY }) {
    const of = (name) => { const value = this.survey.value(name, row); return typeof value === "number" ? number(value) : value ?? "none"; };
    const colour = byId("map-colour").value;
    const more = ["score", "rank", "z"].includes(colour) ? [] : [element("br"), `${colour} ${of(colour)}`];
    this.tip.replaceChildren(element("b", {}, this.survey.names[row]), element("br"), `rank ${this.survey.value("rank", row)} · score ${of("score")} · z ${of("z")}`, ...more);
    this.tip.style.left = `${Math.min(clientX + 12, innerWidth - 200)}px`;
    this.tip.style.top = `${clientY + 12}px`;
    this.tip.hidden = false;
  }

  colours() {
    const column = this.survey.columns.get(byId("map-colour").value);
    const line = { width: this.survey.count > 3000 ? 0 : 0.5, color: this.ground };
    if (column.kind === "category") {
      const colour = (code) => (code < 0 ? NONE : CATEGORIES[code % CATEGORIES.length]);
      this.key(column, colour);
      return { size: this.size(), opacity: 0.9, line, color: this.rows.map((row) => colour(column.data[row])) };
    }
    byId("map-key").replaceChildren();
    const values = this.rows.map((row) => column.data[row]);
    const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))] ?? 0;
    const log = sorted[0] > 0 && at(0.99) > 10 * at(0.01);
    const scale = log ? Math.log10 : (value) => value;
    const [low, high] = [scale(at(0.01)), scale(at(0.99))];
    const ticks = Array.from({ length: 5 }, (_, i) => low + ((high - low) * i) / 4);
    return {
      size: this.size(), opacity: 0.9, line, color: values.map(scale), cmin: low, cmax: high > low ? high : low + 1, colorscale: "Viridis",
      colorbar: { thickness: 8, len: 0.9, outlinewidth: 0, x: 1.01, xpad: 2, tickvals: ticks, ticktext: ticks.map((tick) => number(log ? 10 ** tick : tick, 2)),
        tickfont: { color: this.ink, size: 11 }, title: { text: column.name + (column.unit ? ` (${column.unit})` : ""), side: "right", font: { color: this.ink, size: 12 } } },
    };
  }

  key(column, colour) {
    const present = [...new Set(column.data)].sort((a, b) => (a < 0) - (b < 0) || a - b);
    byId("map-key").replaceChildren(...present.map((code) => {
      const dot = element("i");
      dot.style.background = colour(code);
      return element("span", {}, dot, code < 0 ? "none" : column.categories[code]);
    }));
  }

  layout() {
    const axis = (text) => ({ title: { text, font: { size: 12 }, standoff: 4 }, zeroline: false, gridcolor: this.grid, linecolor: this.grid, color: this.ink, tickfont: { size: 11 } });
    const kind = (this.survey.value("embedding", 0) ?? "umap").toUpperCase();
    const [x, y, z] = [1, 2, 3].map((i) => axis(`${kind} ${i}`));
    const common = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 42, r: 70, t: 6, b: 36 }, hovermode: "closest", uirevision: String(this.dimensions),
      font: { family: "system-ui, sans-serif", color: this.ink }, modebar: { bgcolor: "rgba(0,0,0,0)", color: this.ink, activecolor: this.ink }, transition: { duration: 0 },
    };
    if (this.dimensions === 3) return { ...common, margin: { l: 0, r: 70, t: 0, b: 0 }, scene: { xaxis: x, yaxis: y, zaxis: z } };
    return { ...common, xaxis: x, yaxis: y, dragmode: matchMedia("(pointer: coarse)").matches ? "pan" : "lasso", newselection: { line: { color: this.ink, width: 1.5 } } };
  }

  listen() {
    this.box.on("plotly_hover", ({ points, event }) => { this.hovered = points[0].customdata; this.showTip(this.hovered, event); });
    this.box.on("plotly_unhover", () => { this.hovered = undefined; this.tip.hidden = true; });
    this.box.on("plotly_click", ({ points }) => this.openHovered(points[0].customdata));
    // On touch screens the lasso is Plotly's.
    this.box.on("plotly_selected", (event) => { if (event) this.survey.setLasso(new Set(event.points.map((point) => point.customdata))); });
  }

  openHovered(row) {
    this.tip.hidden = true;
    if (row !== undefined) this.open(row);
  }

  pick(corners) {
    const { xaxis, yaxis } = this.box._fullLayout;
    const [x, y] = this.axes().map((name) => this.survey.columns.get(name).data);
    const rows = this.rows.filter((row) => inside(xaxis.d2p(x[row]), yaxis.d2p(y[row]), corners));
    this.survey.setLasso(new Set(rows));
  }
}
