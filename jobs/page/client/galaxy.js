// One galaxy: its lines as maps, one line large, the spectra of a chosen spaxel, why it ranks, and what is like it.
import { getGalaxy, thumbnailUrl } from "./api.js";
import { element, number, percent, say } from "./dom.js";
import { labelBar } from "./labels.js";
import { gradient, paint } from "./pixels.js";
import { spectrum } from "./spectra.js";

// Beyond these, colours follow the logarithm: flux of the outskirts, and misfits that noise does not make, show side by side.
const FLUX_SHARE = 0.1;
const SOFTENING = { sigma: 3, chi2: 2 };

const KINDS = [
  { key: "map_flux", name: "Observed", note: "mean flux", palette: "flux" },
  { key: "map_model", name: "Model", note: "same scale", palette: "flux" },
  { key: "map_sigma", name: "Residual", note: "σ", palette: "sigma" },
  { key: "map_chi2", name: "Misfit", note: "χ² a sample", palette: "chi2" },
];

export class GalaxyView {
  constructor(survey, box) {
    [this.survey, this.box] = [survey, box];
  }

  async show(plateifu) {
    this.plateifu = plateifu;
    this.box.setAttribute("aria-busy", "true");
    let data;
    try {
      data = await getGalaxy(plateifu, this.survey.meta.version);
    } catch (error) {
      if (this.plateifu === plateifu) this.box.replaceChildren(element("p", { class: "failed" }, error.message), element("a", { href: "#" }, "Back to the gallery"));
      say(error.message, true);
      return;
    } finally {
      this.box.removeAttribute("aria-busy");
    }
    if (this.plateifu !== plateifu) return;
    this.data = data;
    this.side = data.arrays.map_flux.shape.slice(1);
    this.samples = data.arrays.flux.shape[1];
    const top = data.meta.lines.findIndex((line) => line.name === data.meta.row.top_line);
    this.line = Math.max(0, this.line !== undefined && this.keepLine ? this.line : top);
    this.spaxel = null;
    this.draw();
  }

  draw() {
    const { meta } = this.data;
    this.large = element("div", { class: "large" });
    this.spectra = element("section", { class: "spectra-box", "aria-label": "Spectra" });
    this.box.replaceChildren(this.head(), element("div", { class: "galaxy-body" },
      element("div", { class: "middle" }, this.large, this.strip(), this.spectra),
      element("aside", {}, this.why(), this.neighbours(), this.facts(), this.provenance())));
    this.drawLarge();
    this.drawSpectra();
    document.title = `${meta.row.plateifu} · Cubescout`;
  }

  head() {
    const { row } = this.data.meta;
    const fact = (name, value, unit = "") => element("div", {}, element("dt", {}, name), element("dd", { class: "num" }, value, unit && element("span", { class: "soft" }, ` ${unit}`)));
    const extra = [["p", "p_value"], ["q", "q_value"], ["spread", "score_spread"]].filter(([, key]) => Number.isFinite(row[key]));
    return element("header", { class: "galaxy-head" },
      element("a", { href: "#", class: "back", "aria-label": "Back to the gallery" }, "← Gallery"),
      element("h2", { tabindex: -1 }, element("span", { class: "rank num" }, String(row.rank)), " ", row.plateifu),
      element("dl", { class: "facts" }, fact("score", number(row.score)), ...extra.map(([name, key]) => fact(name, number(row[key], 2))),
        fact("z", number(row.z, 4)), fact("S/N", number(row.median_snr, 3)), fact("split", row.split ?? "–"),
        row.url?.startsWith("https://") && element("div", {}, element("dt", {}, element("a", { href: row.url, rel: "noreferrer", target: "_blank" }, "Survey page"))),
        Number.isFinite(row.ra_deg) && fact("RA, Dec", `${row.ra_deg.toFixed(5)}°, ${row.dec_deg.toFixed(5)}°`.replaceAll("-", "−"))),
      row.triage && element("p", { class: "tag warn" }, `triage: ${row.triage}`),
      labelBar(this.survey, row.plateifu),
      element("span", { class: "steps" }, element("button", { type: "button", class: "quiet", "data-step": -1, title: "Key k" }, "Previous"), element("button", { type: "button", class: "quiet", "data-step": 1, title: "Key j" }, "Next")));
  }

  slice(key, line) {
    const array = this.data.arrays[key];
    const size = array.shape.slice(1).reduce((product, length) => product * length, 1);
    return array.subarray(line * size, (line + 1) * size);
  }

  limits(key, line) {
    const { limits, lines } = this.data.meta;
    if (key === "map_sigma") return [-limits.sigma, limits.sigma];
    if (key === "map_chi2") return [0, limits.chi2];
    if (key === "by_place" || key === "by_spaxel") return [-limits[key], limits[key]];
    return lines[line].flux_limits;
  }

  panels() {
    const { arrays } = this.data;
    const panels = KINDS.map((kind) => ({ ...kind, values: this.slice(kind.key, this.line), range: this.limits(kind.key, this.line) }));
    if (arrays.by_place) panels.push({ name: "Attribution", note: "this line, σ", palette: "sigma", values: this.slice("by_place", this.line), range: this.limits("by_place") });
    if (arrays.by_spaxel) panels.push({ name: "Attribution", note: "all lines, σ", palette: "sigma", values: arrays.by_spaxel, range: this.limits("by_spaxel") });
    else panels.push({ name: "Misfit", note: "all lines, χ² a sample", palette: "chi2", values: arrays.misfit, range: [0, this.data.meta.limits.chi2] });
    return panels;
  }

  drawLarge() {
    const { lines } = this.data.meta;
    const { palettes, sky } = this.survey.meta;
    const line = lines[this.line];
    this.large.replaceChildren(
      element("h3", {}, line.name, element("span", { class: "soft num" }, `  ${line.rest_wave.toFixed(2)} Å vacuum · ${percent(line.share)} of the misfit (usually ${percent(line.usual)})`)),
      element("div", { class: "panels" }, ...this.panels().map((panel, i) => {
        const canvas = element("canvas", { role: "img", tabindex: 0, "aria-label": `${this.plateifu}, ${line.name}: ${panel.name}, ${panel.note}. Arrow keys choose a spaxel.` });
        paint(canvas, panel.values, this.side, panel.range, palettes[panel.palette], SOFTENING[panel.palette] ?? FLUX_SHARE * panel.range[1]);
        const bar = element("i", { class: "colours" });
        bar.style.background = gradient(palettes[panel.palette]);
        const mark = element("i", { class: "mark", hidden: true });
        return element("figure", { class: "panel" }, element("figcaption", {}, element("b", {}, panel.name), element("span", { class: "soft" }, panel.note)),
          element("div", { class: "pixels", onclick: (event) => this.clicked(event, canvas), onkeydown: (event) => this.moved(event) }, canvas, mark, ...(i === 0 ? this.sky() : [])), bar,
          element("div", { class: "ends num" }, element("span", {}, number(panel.range[0], 2)), element("output", { "data-panel": "" }), element("span", {}, number(panel.range[1], 3))));
      })),
      element("p", { class: "note" }, `${sky}. Flux in ${this.survey.meta.flux_unit}. Colours are linear up to a tenth of the scale in flux, 3 σ, and χ² of 2, logarithmic beyond. Grey: masked. Choose a spaxel for its spectra.`));
    this.drawMark();
  }

  // A scale bar, and how the maps lie, as far as they are known of the survey.
  sky() {
    const { spaxel_arcsec: arcsec, north_up: northUp } = this.survey.meta;
    if (!arcsec) return [];
    const length = this.side[1] * arcsec > 12 ? 5 : 2;
    const bar = element("span", { class: "scale" }, element("b", {}, `${length}″`));
    bar.style.width = `${(100 * length) / (this.side[1] * arcsec)}%`;
    return northUp ? [bar, element("span", { class: "compass" }, "N ↑ E ←")] : [bar];
  }

  clicked(event, canvas) {
    const box = canvas.getBoundingClientRect();
    const [height, width] = this.side;
    const x = Math.floor(((event.clientX - box.left) / box.width) * width);
    const y = height - 1 - Math.floor(((event.clientY - box.top) / box.height) * height);
    this.choose(x, y);
    canvas.focus({ preventScroll: true });
  }

  moved(event) {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.key === "Escape" && this.spaxel) { this.spaxel = null; this.drawMark(); this.drawSpectra(); event.preventDefault(); event.stopPropagation(); }
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const [x, y] = this.spaxel ?? [Math.floor(this.side[1] / 2) - by[0], Math.floor(this.side[0] / 2) - by[1]];
    this.choose(x + by[0], y + by[1]);
  }

  choose(x, y) {
    this.spaxel = [Math.min(this.side[1] - 1, Math.max(0, x)), Math.min(this.side[0] - 1, Math.max(0, y))];
    this.drawMark();
    this.drawSpectra();
  }

  drawMark() {
    const [height, width] = this.side;
    const panels = this.panels();
    this.large.querySelectorAll(".panel").forEach((figure, i) => {
      const mark = figure.querySelector(".mark");
      mark.hidden = !this.spaxel;
      const output = figure.querySelector("output");
      output.textContent = "";
      if (!this.spaxel) return;
      const [x, y] = this.spaxel;
      Object.assign(mark.style, { left: `${(100 * x) / width}%`, top: `${(100 * (height - 1 - y)) / height}%`, width: `${100 / width}%`, height: `${100 / height}%` });
      const value = panels[i].values[y * width + x];
      output.textContent = Number.isFinite(value) ? number(value) : "masked";
    });
  }

  strip() {
    const { lines } = this.data.meta;
    const { palettes } = this.survey.meta;
    const kinds = [KINDS[0], KINDS[1], KINDS[2]];
    const cells = lines.map((line, i) => {
      const canvases = kinds.map((kind) => {
        const canvas = element("canvas", { "aria-hidden": "true" });
        const range = this.limits(kind.key, i);
        paint(canvas, this.slice(kind.key, i), this.side, range, palettes[kind.palette], SOFTENING[kind.palette] ?? FLUX_SHARE * range[1]);
        return canvas;
      });
      return element("button", { type: "button", class: "line", "data-line": i, "aria-pressed": String(i === this.line), "aria-label": `${line.name}, ${percent(line.share)} of the misfit`, onclick: () => this.chooseLine(i) },
        element("b", {}, line.name.split("-")[0]), element("span", { class: "soft num" }, line.name.split("-")[1] ?? ""), ...canvases, element("span", { class: "num share" }, percent(line.share)));
    });
    return element("section", { class: "strip", "aria-label": `All ${lines.length} lines` },
      element("div", { class: "strip-rows", "aria-hidden": "true" }, ...["", "observed", "model", "residual", "misfit"].map((name) => element("span", {}, name))), element("div", { class: "strip-lines", tabindex: -1 }, ...cells));
  }

  chooseLine(line) {
    this.line = line;
    for (const button of this.box.querySelectorAll("[data-line]")) button.setAttribute("aria-pressed", String(Number(button.dataset.line) === line));
    this.drawLarge();
    this.drawSpectra();
  }

  spectrumOf(line) {
    const { arrays } = this.data;
    if (!this.spaxel) return { flux: [...this.slice("sum_flux", line)], model: [...this.slice("sum_model", line)], error: [...this.slice("sum_error", line)] };
    const [height, width] = this.side;
    const at = (key) => Array.from({ length: this.samples }, (_, s) => arrays[key][((line * this.samples + s) * height + this.spaxel[1]) * width + this.spaxel[0]]);
    return { flux: at("flux"), model: at("model"), error: at("error") };
  }

  drawSpectra() {
    const { lines } = this.data.meta;
    const velocity = this.survey.meta.velocity_kms;
    const [height, width] = this.side;
    const arcsec = this.survey.meta.spaxel_arcsec;
    const offset = (at, length) => number((at - (length - 1) / 2) * (arcsec ?? 1), 2);
    const where = this.spaxel ? `spaxel ${this.spaxel[0]}, ${this.spaxel[1]}: ${offset(this.spaxel[0], width)}, ${offset(this.spaxel[1], height)} ${arcsec ? "arcsec" : "spaxels"} from the centre` : "summed over spaxels";
    const label = (line) => `${this.plateifu}, ${line.name}, ${where}: flux and model`;
    this.spectra.replaceChildren(
      element("h3", {}, "Spectra", element("span", { class: "soft num", id: "spaxel", role: "status" }, `  ${where}`), this.spaxel && element("button", { type: "button", class: "quiet", onclick: () => { this.spaxel = null; this.drawMark(); this.drawSpectra(); } }, "Sum of all")),
      element("div", { class: "spectra" }, element("figure", { class: "chosen" }, element("figcaption", {}, element("b", {}, lines[this.line].name), element("span", { class: "soft" }, `  flux (${this.spaxel ? this.survey.meta.flux_unit : this.survey.meta.flux_unit.replace(" spaxel⁻¹", "")})`)), spectrum(this.spectrumOf(this.line), { label: label(lines[this.line]), velocity, axes: true })),
        element("div", { class: "others" }, ...lines.map((line, i) => element("figure", {}, element("figcaption", {}, line.name), spectrum(this.spectrumOf(i), { label: label(line), velocity }))))),
      element("p", { class: "note legend" }, element("i", { class: "step" }), "observed, ±1 σ shaded ", element("i", { class: "step modelled" }), "model · each line on its own flux scale"));
  }

  why() {
    const { row, lines } = this.data.meta;
    const words = [1, 2, 3].map((i) => row[`reason_${i}`]).filter(Boolean);
    const top = [...lines].sort((a, b) => (b.share ?? 0) - (a.share ?? 0)).slice(0, 6);
    const width = (share) => `${Math.min(100, 100 * (share ?? 0)).toFixed(1)}%`;
    return element("section", { class: "why" }, element("h3", {}, "Why it ranks"),
      words.length > 0 && element("ol", { class: "reasons" }, ...words.map((text) => element("li", {}, text))),
      element("ol", { class: "shares num", "aria-label": "Lines with the largest share of the misfit" }, ...top.map((line) => {
        const [bar, tick] = [element("i"), element("u")];
        [bar.style.width, tick.style.left] = [width(line.share), width(line.usual)];
        return element("li", {}, element("span", {}, line.name), element("span", { class: "track", title: `usually ${percent(line.usual)}` }, bar, tick), element("span", {}, percent(line.share)));
      })), element("p", { class: "note" }, "Share of the misfit; the tick is the survey's median."));
  }

  neighbours() {
    const { survey } = this;
    const { neighbours } = this.data.meta;
    return element("section", {}, element("h3", {}, "Nearest in latent space"), element("ul", { class: "neighbours" }, ...neighbours.map(({ plateifu, distance, same_object: same }) => {
      const row = survey.rowOf.get(plateifu);
      return element("li", {}, element("a", { href: `#galaxy/${encodeURIComponent(plateifu)}` },
        element("img", { src: thumbnailUrl(plateifu, survey.meta.version), width: 64, height: 64, loading: "lazy", alt: `${survey.meta.thumbnail_line} flux of ${plateifu}` }),
        element("b", {}, plateifu), element("span", { class: "soft num" }, `rank ${row === undefined ? "–" : survey.value("rank", row)} · ${number(distance, 2)}`), same && element("span", { class: "tag" }, "same object")));
    })));
  }

  facts() {
    const { survey } = this;
    const { row } = this.data.meta;
    const rows = Object.entries(row).filter(([name, value]) => value !== null && value !== "" && !name.startsWith("share_") && !name.startsWith("umap"));
    return element("details", {}, element("summary", {}, "All columns"), element("dl", { class: "columns num" }, ...rows.flatMap(([name, value]) => {
      const column = survey.columns.get(name);
      const text = typeof value === "number" ? `${number(value, 5)} ${column?.unit ?? ""}` : String(value);
      return [element("dt", { title: column?.description }, name), element("dd", {}, text.startsWith("https://") ? element("a", { href: text, rel: "noreferrer", target: "_blank" }, text) : text)];
    })));
  }

  provenance() {
    const { provenance } = this.survey.meta;
    return element("details", {}, element("summary", {}, "Provenance"), provenanceList(provenance, this.survey.meta.version));
  }
}

// Whatever a catalog was made from, one line each.
export function provenanceList(provenance, version) {
  const flat = (value, path) => (value !== null && typeof value === "object" ? Object.entries(value).flatMap(([name, inner]) => flat(inner, path ? `${path}.${name}` : name)) : [[path, String(value)]]);
  return element("dl", { class: "columns" }, ...[["catalog", version], ...flat(provenance, "")].flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}
