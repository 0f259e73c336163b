// The dialog about the catalog: the survey, how to read the page, rejected galaxies, columns, provenance.
import { byId, counted, element, number } from "./dom.js";
import { provenanceList } from "./provenance.js";

const correlation = (value) => (value === null || value === undefined ? "undefined" : `${value > 0 ? "+" : ""}${number(value, 2)}`);

export function about(survey) {
  const { provenance, version } = survey.meta;
  const close = element("button", { type: "button", onclick: () => byId("about").close() }, "Close");
  byId("about").append(element("div", { class: "row" }, element("h2", {}, "About this catalog"), close),
    ...facts(survey), ...warnings(survey),
    element("h3", {}, "How to read the page"), ...reading(survey), keys(),
    ...rejected(survey), columns(survey),
    element("details", {}, element("summary", {}, "Provenance"), provenanceList(provenance, version)));
  byId("about-open").addEventListener("click", () => byId("about").showModal());
  const urgent = warnings(survey);
  byId("warnings").replaceChildren(...urgent);
  byId("warnings").hidden = !urgent.length;
}

function facts({ meta, count, source }) {
  const { summary, provenance } = meta;
  const counts = (of) => Object.entries(of).map(([name, number_]) => `${number_} ${name}`).join(", ");
  const model = provenance.model ?? {};
  const { score, mae } = summary.spearman;
  return [
    `${counted(summary.num_galaxies, "galaxy")} (${counts(summary.splits)}) at z ${number(summary.z_range[0])} to ${number(summary.z_range[1])}, ranked by score: ${meta.score_label}. A network reconstructs ${counted(summary.num_lines, "window")} around emission lines of each; the score measures the residual. Rejected before scoring: ${summary.num_rejected}${summary.num_rejected ? ` (${counts(summary.reasons)})` : ""}.`,
    source.exported && `This file contains the catalog's rows of ${counted(count, "galaxy")}, and the maps and spectra of ${source.galaxies.size}: the most unusual ones and their neighbours. Labels that you give here stay in this browser; “Save labels” writes them as a table for cubescout label CONFIG --table FILE.`,
    `Model: ${model.reference ?? "–"}${model.version ? `, version ${model.version}` : ""}.`,
    typeof score?.flux === "number" && `Spearman correlation of the score with flux ${correlation(score?.flux)}, with S/N ${correlation(score?.snr)}; the closer to 0, the less the ranking follows brightness and depth.${mae ? ` For the paper's mean absolute error the correlations are ${correlation(mae.flux)} and ${correlation(mae.snr)}.` : ""}`,
  ].filter(Boolean).map((text) => element("p", {}, text));
}

function warnings({ meta }) {
  const { summary, provenance } = meta;
  const found = [];
  if (summary.following.length) found.push(`The score follows ${summary.following.join(" and ")} (|Spearman| above 0.5): the ranking is partly one by ${summary.following.join(" and ")}.`);
  if (!summary.own_model) found.push(`${provenance.model.reference} was trained on another store than the one scored here.`);
  return found.map((text) => element("p", { class: "notice" }, text));
}

function reading({ meta, columns: described }) {
  const { summary } = meta;
  return [
    "A high score is not a discovery: cosmic rays, bad fibres, wrong redshifts and very bright galaxies are also reconstructed badly.",
    summary.own_model && !summary.cross_fitted && "The model was trained on the galaxies of the training split, so their scores are optimistic (biased low).",
    described.has("p_value") && `p is the conformal p-value: with n calibration galaxies (of the validation split, not labelled as unusual; with 450 or more, those of similar S/N and size), of which k have a score at least as high, it is (k + 1)/(n + 1). q is the lowest false discovery rate at which the galaxy is a detection${summary.fdr ? `; the nominal rate is ${summary.fdr}` : ""}. No p can be below 1/(n + 1), so a small sample is ranked but yields no detections; a large one yields them once unusual calibration galaxies have labels.`,
    `${meta.sky}. A window contains the line and, unless the store was made without it, the continuum; rest wavelengths are in vacuum. Flux is in ${meta.flux_unit}.`,
    "Residual: flux minus reconstruction, summed over a window, in units of its standard deviation σ; the residuals of a wrong velocity can cancel. Misfit: mean of residual² × ivar, in which residuals do not cancel. Attribution: residual of a line in units of noise and typical reconstruction error; over all lines, the excess χ² of the residuals summed over the region around a spaxel, of all lines or of the most significant one, in units of its spread in ordinary galaxies. Samples that triage masked are left out.",
    meta.sky_image && `For each galaxy that is opened, this page requests an image of the sky (${meta.sky_image.name}) from ${meta.sky_image.host}, which so learns the position. Outside the survey's area it is blank.`,
    "Unexplained: (χ² − 1) over the mean of flux² × ivar, which subtracts the noise and normalises by brightness. Median S/N is the median over all samples, most of which contain no line: values near 0 are normal even if a line is bright.",
  ].filter(Boolean).map((text) => element("p", {}, text));
}

function keys() {
  const of = [["arrows, j, k", "next and previous galaxy"], ["Enter, Esc", "open a galaxy, go back"], ["/", "search"], ["1 … 9", "give the label at that position"], ["arrows on a map", "choose a spaxel"], ["arrows, +, −, 0 on the map of latents", "pan or turn, zoom, reset"]];
  return element("details", {}, element("summary", {}, "Keys"), element("dl", { class: "columns" }, ...of.flatMap(([key, does]) => [element("dt", {}, key), element("dd", {}, does)])));
}

function rejected({ meta }) {
  const { rejected: rows, num_rejected: total } = meta.summary;
  if (!total) return [];
  return [element("details", {}, element("summary", {}, `Rejected galaxies (${total})`),
    table("Rejected galaxies", ["galaxy", "code", "reason"], rows.map((row) => [row.plateifu, row.code, row.reason])),
    total > rows.length && element("p", { class: "note" }, `The first ${rows.length}; all are in the store's rejected.csv.`))];
}

function columns(survey) {
  const rows = [...survey.columns.values()].filter((column) => column.name !== "label").map((column) => [column.name, column.unit, column.description]);
  return element("details", {}, element("summary", {}, `Columns of the catalog (${rows.length})`), table("Columns of the catalog", ["column", "unit", "description"], rows));
}

function table(label, head, rows) {
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((text) => element("td", {}, text)))))));
}
