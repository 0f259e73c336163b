// Panel beside a galaxy's maps: why it ranks high, its scores, neighbours and columns.
import { element, number, percent, strongest } from "./dom.js";
import { provenanceList } from "./provenance.js";
import { atPosition, skyImage } from "./sky.js";

const NUM_TOP_LINES = 6;

const fact = (name, value, title) => element("div", { title }, element("dt", {}, name), element("dd", { class: "num" }, value));

export function shortFacts(row) {
  const of = (name) => row[name];
  const line = strongest(of);
  return element("dl", { class: "facts" },
    fact("score", number(row.score)),
    Number.isFinite(row.q_value) && fact("q", number(row.q_value, 2)),
    fact("z", number(row.z, 4)),
    line && fact(line[0], number(line[1])),
    fact("median S/N", number(row.median_snr), "Median over all samples, most of which contain no line"),
    ["yes", true, 1].includes(row.is_find) && element("div", { class: "tag detection" }, "detection"),
    row.triage && element("div", { class: "tag warn" }, `triage: ${row.triage}`));
}

export function aside(survey, { row, lines, neighbours: near }) {
  return element("aside", {}, why(survey, row, lines), scores(survey, row), neighbours(survey, near), allColumns(survey, row),
    element("details", {}, element("summary", {}, "Provenance"), provenanceList(survey.meta.provenance, survey.meta.version)));
}

function why(survey, row, lines) {
  const { summary, triage_codes: codes } = survey.meta;
  const words = [1, 2, 3].map((i) => row[`reason_${i}`]).filter(Boolean);
  const top = [...lines].sort((a, b) => (b.share ?? 0) - (a.share ?? 0)).slice(0, NUM_TOP_LINES);
  const width = (share) => `${Math.min(100, 100 * (share ?? 0)).toFixed(1)}%`;
  const bar = ({ name, share, usual }) => {
    const [filled, tick] = [element("i"), element("u")];
    filled.style.width = width(share);
    tick.style.left = width(usual);
    return element("li", {}, element("span", {}, name), element("span", { class: "track", title: `survey median ${percent(usual)}` }, filled, usual !== null && tick), element("span", {}, percent(share)));
  };
  return element("section", { class: "why" }, element("h3", {}, "Why it ranks"),
    row.triage && element("p", { class: "notice" }, element("b", {}, `Triage: ${row.triage}`), codes[row.triage] ? `, ${codes[row.triage]}.` : "."),
    words.length > 0 && element("ol", { class: "reasons" }, ...words.map((text) => element("li", {}, text))),
    summary.median_score && element("p", {}, `The score is ${number(row.score / summary.median_score, 2)} times the survey's median.`),
    element("ol", { class: "shares num", "aria-label": "Lines with the largest share of the misfit" }, ...top.map(bar)),
    element("p", { class: "note" }, "Share of each line in the misfit; the tick marks the survey's median."));
}

function scores(survey, row) {
  const { summary } = survey.meta;
  const seen = row.split === "train" && summary.own_model && !summary.cross_fitted;
  const described = (name) => survey.columns.get(name)?.description;
  const value = (label, name, digits = 3) => Number.isFinite(row[name]) && fact(label, number(row[name], digits), described(name));
  const unit = (name) => survey.columns.get(name)?.unit ?? "";
  const url = row.url?.startsWith("https://") ? row.url : null;
  return element("section", {}, element("h3", {}, "Numbers"), element("dl", { class: "pairs" },
    fact("object", row.mangaid ?? "–"),
    Number.isFinite(row.ra_deg) && fact("RA, Dec", `${row.ra_deg.toFixed(5)}°, ${row.dec_deg.toFixed(5)}°`.replaceAll("-", "−"), "ICRS"),
    value("p", "p_value", 2), value("q", "q_value", 2),
    row.num_models > 1 && fact("models", `${row.num_models}, spread ${number(row.score_spread, 2)}`, described("score_spread")),
    Number.isFinite(row.total_flux) && fact("total flux", `${number(row.total_flux)} ${unit("total_flux")}`, described("total_flux")),
    Number.isFinite(row.score_mae) && fact("MAE", `${number(row.score_mae)} ${unit("score_mae")}`, described("score_mae")),
    value("χ²", "score_chi2"), value("unexplained", "score_unexplained", 2), value("relative", "score_relative", 2),
    fact("split", `${row.split ?? "–"}${seen ? " (seen in training)" : ""}`, described("split"))),
  url && element("p", {}, link(url, "Survey page of this galaxy")), skyLinks(survey, row), skyImage(survey, row));
}

const link = (url, text) => element("a", { href: url, rel: "noreferrer", target: "_blank" }, text);

// Pages of other archives at the galaxy's position.
function skyLinks(survey, row) {
  const links = Object.entries(survey.meta.sky_links).map(([name, template]) => [name, atPosition(template, row)]);
  if (!links.length || !links[0][1]) return null;
  return element("p", { class: "sky-links" }, "At this position: ", ...links.flatMap(([name, url], i) => [i ? ", " : "", link(url, name)]));
}

function neighbours(survey, near) {
  if (!near.length) return null;
  const card = ({ plateifu, distance, same_object: same }) => {
    const row = survey.rowOf.get(plateifu);
    const url = survey.thumbnail(plateifu);
    return element("li", {}, element("a", { href: `#galaxy/${encodeURIComponent(plateifu)}` },
      url ? element("img", { src: url, width: 64, height: 64, loading: "lazy", alt: `${survey.meta.thumbnail_line} flux of ${plateifu}` }) : element("span", { class: "no-thumbnail" }),
      element("b", {}, plateifu), element("span", { class: "soft num" }, `rank ${row === undefined ? "–" : survey.value("rank", row)}, distance ${number(distance, 2)}`),
      same && element("span", { class: "tag" }, "same object"), !survey.source.holds(plateifu) && element("span", { class: "soft" }, "row only")));
  };
  return element("section", {}, element("h3", {}, "Nearest in latent space"), element("ul", { class: "neighbours" }, ...near.map(card)),
    element("p", { class: "note" }, "Distance in standardised latents."));
}

function allColumns(survey, row) {
  const rows = Object.entries(row).filter(([name, value]) => value !== null && value !== "" && !name.startsWith("share_") && !name.startsWith("umap"));
  return element("details", {}, element("summary", {}, "All columns"), element("dl", { class: "columns num" }, ...rows.flatMap(([name, value]) => {
    const column = survey.columns.get(name);
    const text = typeof value === "number" ? `${number(value, 5)} ${column?.unit ?? ""}` : String(value);
    return [element("dt", { title: column?.description }, name), element("dd", {}, text.startsWith("https://") ? element("a", { href: text, rel: "noreferrer", target: "_blank" }, text) : text)];
  })));
}
