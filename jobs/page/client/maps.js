// Maps of a galaxy: large ones of the chosen line, and a strip of all lines.
import { element, number, percent, svg } from "./dom.js";
import { gradient, paint } from "./pixels.js";

// Above these values colours are logarithmic, to show outskirts beside the centre, and noise beside large residuals.
const FLUX_SHARE = 0.1;
const SOFTENING = { sigma: 3, chi2: 2 };

const KINDS = [
  { key: "map_flux", name: "Observed", note: "flux", palette: "flux" },
  { key: "map_reconstruction", name: "Reconstruction", note: "flux", palette: "flux" },
  { key: "map_residual_sigma", name: "Residual", note: "σ", palette: "sigma", ofResiduals: true },
  { key: "map_chi2", name: "Misfit", note: "χ² per sample", palette: "chi2", ofResiduals: true },
];
const ROWS = ["observed", "reconstr.", "residual", "misfit"];

function limits({ data }, key, line) {
  const { limits: ends, lines } = data.meta;
  if (key === "map_residual_sigma") return [-ends.residual_sigma, ends.residual_sigma];
  if (key === "map_chi2" || key === "misfit") return [0, ends.chi2];
  if (key === "by_place" || key === "by_spaxel") return [-ends[key], ends[key]];
  return lines[line].flux_limits;
}

// Panels of the chosen line; the view keeps them to read their values at a spaxel.
export function panelsOf(view) {
  const { arrays } = view.data;
  const [ofLine, ofAll] = [[view.line], view.data.meta.lines.keys()].map((lines) => triagedSpaxels(view, lines));
  const panel = (kind, values, crossed) => ({ ...kind, values, crossed, range: limits(view, kind.key, view.line) });
  view.panels = KINDS.map((kind) => panel(kind, view.slice(kind.key, view.line), kind.ofResiduals ? ofLine : []));
  if (arrays.by_place) view.panels.push(panel({ key: "by_place", name: "Attribution", note: "this line, σ", palette: "sigma" }, view.slice("by_place", view.line), ofLine));
  view.panels.push(arrays.by_spaxel ? panel({ key: "by_spaxel", name: "Attribution", note: "all lines, σ", palette: "sigma" }, arrays.by_spaxel, ofAll)
    : panel({ key: "misfit", name: "Misfit", note: "all lines", palette: "chi2" }, arrays.misfit, ofAll));
  return view.panels;
}

// Indices of spaxels where samples of the given lines were masked as artefacts before scoring.
function triagedSpaxels(view, lines) {
  if (!view.data.arrays.triaged) return [];
  const crossed = new Set();
  for (const line of lines) view.slice("triaged", line).forEach((share, i) => { if (share > 0) crossed.add(i); });
  return [...crossed];
}

function crosses({ side: [height, width] }, { crossed }) {
  const at = (i) => `M${i % width} ${height - 1 - Math.floor(i / width)}l1 1m0-1l-1 1`;
  return svg("svg", { class: "crosses", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, svg("path", { d: crossed.map(at).join("") }));
}

function fill(canvas, view, panel) {
  const { palettes } = view.survey.meta;
  paint(canvas, panel.values, view.side, panel.range, palettes[panel.palette], SOFTENING[panel.palette] ?? FLUX_SHARE * panel.range[1]);
  return canvas;
}

export function panelFigure(view, panel, withSky) {
  const line = view.data.meta.lines[view.line];
  const canvas = fill(element("canvas", { role: "img", tabindex: 0, "aria-label": `${view.plateifu}, ${line.name}: ${panel.name}, ${panel.note}. Arrow keys choose a spaxel.` }), view, panel);
  const empty = !panel.values.some(Number.isFinite);
  const bar = element("i", { class: "colours" });
  bar.style.background = gradient(view.survey.meta.palettes[panel.palette]);
  return element("figure", { class: "panel" }, element("figcaption", {}, element("b", {}, panel.name), element("span", { class: "soft" }, panel.note)),
    element("div", { class: "pixels", onclick: (event) => view.clicked(event, canvas), onkeydown: (event) => view.moved(event) },
      canvas, panel.crossed.length > 0 && crosses(view, panel), element("i", { class: "mark", hidden: true }), empty && element("span", { class: "empty" }, "no data"), ...(withSky ? skyMarks(view) : [])),
    bar, element("div", { class: "ends num" }, element("span", {}, number(panel.range[0], 2)), element("output", {}), element("span", {}, number(panel.range[1], 3))));
}

// Scale bar and compass, as far as the survey's spaxel size and orientation are known.
function skyMarks({ survey, side }) {
  const { spaxel_arcsec: arcsec, north_up: northUp } = survey.meta;
  if (!arcsec) return [];
  const length = side[1] * arcsec > 12 ? 5 : 2;
  const bar = element("span", { class: "scale" }, element("b", {}, `${length}″`));
  bar.style.width = `${(100 * length) / (side[1] * arcsec)}%`;
  return northUp ? [bar, element("span", { class: "compass" }, "N ↑ E ←")] : [bar];
}

export function rowNames() {
  return element("div", { class: "strip-rows", "aria-hidden": "true" }, ...["", ...ROWS, ""].map((name) => element("span", {}, name)));
}

export function lineButton(view, i) {
  const line = view.data.meta.lines[i];
  const canvases = KINDS.map((kind) => fill(element("canvas", { "aria-hidden": "true" }), view, { ...kind, values: view.slice(kind.key, i), range: limits(view, kind.key, i) }));
  const [element_, wave] = line.name.split("-");
  return element("button", { type: "button", class: "line", "data-line": i, "aria-pressed": String(i === view.line), "aria-label": `${line.name}, ${percent(line.share)} of the misfit`, onclick: () => view.chooseLine(i) },
    element("span", { class: "name" }, element("b", {}, element_), element("span", { class: "soft num" }, wave ?? "")), ...canvases, element("span", { class: "num share" }, percent(line.share)));
}
