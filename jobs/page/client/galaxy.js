// View of one galaxy: maps of the chosen line, of all lines, spectra of the chosen spaxel, and the panel beside them.
import { aside, shortFacts } from "./aside.js";
import { counted, element, number, percent, say, send } from "./dom.js";
import { labelBar } from "./labels.js";
import { lineButton, panelFigure, panelsOf, rowNames } from "./maps.js";
import { spectrum } from "./spectra.js";

export class GalaxyView {
  constructor(survey, box) {
    [this.survey, this.box, this.allLines] = [survey, box, false];
  }

  async show(plateifu) {
    this.plateifu = plateifu;
    if (!this.survey.rowOf.has(plateifu)) { this.fail(`${plateifu}: no such galaxy in the catalog`); return; }
    if (!this.survey.source.holds(plateifu)) { this.showRow(plateifu); return; }
    this.box.setAttribute("aria-busy", "true");
    let data;
    try {
      data = await this.survey.source.galaxy(plateifu);
    } catch (error) {
      if (this.plateifu === plateifu) this.fail(error.message);
      return;
    } finally {
      this.box.removeAttribute("aria-busy");
    }
    if (this.plateifu !== plateifu) return;
    this.data = data;
    this.side = data.arrays.map_flux.shape.slice(1);
    this.samples = data.arrays.flux.shape[1];
    this.line = Math.max(0, data.meta.lines.findIndex((line) => line.name === data.meta.row.top_line));
    this.spaxel = null;
    this.draw();
  }

  fail(message) {
    this.box.replaceChildren(element("p", { class: "failed" }, message), element("a", { href: "#" }, "Back to the gallery"));
    say(message, true);
  }

  // A galaxy of which the file contains only the catalog's row.
  showRow(plateifu) {
    const { survey } = this;
    const row = survey.rowValues(survey.rowOf.get(plateifu));
    const lines = Object.entries(survey.meta.usual_shares).map(([name, usual]) => ({ name, usual, share: row[`share_${name}`] }));
    const thumbnail = survey.thumbnail(plateifu);
    this.data = null;
    this.box.replaceChildren(this.head(row), element("div", { class: "galaxy-body" },
      element("div", { class: "middle" },
        element("p", { class: "notice" }, `This file contains the maps and spectra of ${survey.source.galaxies.size} of ${counted(survey.count, "galaxy")}, but only the catalog's row of ${plateifu}. `,
          element("code", {}, "cubescout explore CONFIG --serve"), " shows those of every galaxy."),
        thumbnail && element("figure", { class: "panel" }, element("figcaption", {}, element("b", {}, survey.meta.thumbnail_line), element("span", { class: "soft" }, "mean flux")), element("img", { src: thumbnail, alt: `${survey.meta.thumbnail_line} flux of ${plateifu}` }))),
      aside(survey, { row, lines, neighbours: [] })));
    document.title = `${plateifu} · Cubescout`;
  }

  draw() {
    const { meta } = this.data;
    this.large = element("div", { class: "large" });
    this.strip = element("section", { class: "strip", "aria-label": "Lines" });
    this.spectra = element("section", { class: "spectra-box", "aria-label": "Spectra" });
    this.box.replaceChildren(this.head(meta.row), element("div", { class: "galaxy-body" },
      element("div", { class: "middle" }, this.large, this.spectra, this.strip), aside(this.survey, meta)));
    this.drawLine();
    document.title = `${meta.row.plateifu} · Cubescout`;
  }

  drawLine() {
    this.drawLarge();
    this.drawStrip();
    this.drawSpectra();
  }

  head(row) {
    const step = (by, name, key) => element("button", { type: "button", class: "quiet", "data-step": by, title: `Key ${key}` }, name);
    return element("header", { class: "galaxy-head" },
      element("a", { href: "#", class: "back", "aria-label": "Back to the gallery" }, "← Gallery"),
      element("h2", { tabindex: -1 }, element("span", { class: "rank num", title: "Rank" }, String(row.rank)), " ", row.plateifu),
      shortFacts(row),
      this.survey.meta.sends && element("button", { type: "button", class: "quiet", id: "point", title: "Send the position to Aladin and other programs (SAMP)", onclick: () => send(this.survey.source, [row.plateifu], false) }, "Point Aladin"),
      element("span", { class: "steps" }, step(-1, "Previous", "k"), step(1, "Next", "j")),
      labelBar(this.survey, row.plateifu));
  }

  slice(key, line) {
    const array = this.data.arrays[key];
    const size = array.shape.slice(1).reduce((product, length) => product * length, 1);
    return array.subarray(line * size, (line + 1) * size);
  }

  drawLarge() {
    const { lines } = this.data.meta;
    const { sky, flux_unit: unit } = this.survey.meta;
    const line = lines[this.line];
    this.large.replaceChildren(
      element("h3", {}, line.name, element("span", { class: "soft num" }, `  ${line.rest_wave.toFixed(2)} Å (vacuum) · ${percent(line.share)} of the misfit (survey median ${percent(line.usual)})`)),
      element("div", { class: "panels" }, ...panelsOf(this).map((panel, i) => panelFigure(this, panel, i === 0))),
      element("p", { class: "note" }, `${sky}. Flux: ${unit}, mean over the window. Colours are linear up to a tenth of the flux scale, 3 σ and χ² of 2, logarithmic beyond; grey is masked.${this.panels.some(({ crossed }) => crossed.length) ? " Of spaxels with a cross, samples were masked as artefacts before scoring." : ""}${this.rounding()}`));
    this.drawMark();
  }

  rounding() {
    const { rounding } = this.data.meta;
    return rounding ? ` In this file flux and reconstruction of a sample are rounded to within ${number(rounding.flux_sigma, 1)} σ, and σ to within ${number(100 * rounding.error_share, 1)}%; sums over spaxels are exact.` : "";
  }

  drawStrip() {
    const { lines, row } = this.data.meta;
    const key = new Set([...this.survey.meta.key_lines, row.top_line, lines[this.line].name]);
    const few = this.survey.meta.key_lines.length > 0 && lines.some((line) => !key.has(line.name));
    this.shownLines = [...lines.keys()].filter((i) => !few || this.allLines || key.has(lines[i].name));
    const toggle = element("button", { type: "button", class: "quiet", id: "all-lines", "aria-pressed": String(this.allLines), onclick: () => { this.allLines = !this.allLines; this.drawStrip(); this.drawSpectra(); this.strip.querySelector("#all-lines").focus(); } }, `All ${counted(lines.length, "line")}`);
    this.strip.replaceChildren(element("h3", { class: "row" }, "Lines", few && toggle),
      element("div", { class: "strip-box" }, rowNames(), element("div", { class: "strip-lines" }, ...this.shownLines.map((i) => lineButton(this, i)))));
  }

  chooseLine(line) {
    this.line = line;
    this.drawLine();
    this.strip.querySelector(`[data-line="${line}"]`)?.focus({ preventScroll: true });
  }

  clicked(event, canvas) {
    const box = canvas.getBoundingClientRect();
    const [height, width] = this.side;
    this.choose(Math.floor(((event.clientX - box.left) / box.width) * width), height - 1 - Math.floor(((event.clientY - box.top) / box.height) * height));
    canvas.focus({ preventScroll: true });
  }

  moved(event) {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.key === "Escape" && this.spaxel) { this.chooseAll(); event.preventDefault(); event.stopPropagation(); }
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

  chooseAll() {
    this.spaxel = null;
    this.drawMark();
    this.drawSpectra();
  }

  drawMark() {
    const [height, width] = this.side;
    for (const [i, mark] of this.large.querySelectorAll(".mark").entries()) {
      mark.hidden = !this.spaxel;
      const output = this.large.querySelectorAll("output")[i];
      output.textContent = "";
      if (!this.spaxel) continue;
      const [x, y] = this.spaxel;
      Object.assign(mark.style, { left: `${(100 * x) / width}%`, top: `${(100 * (height - 1 - y)) / height}%`, width: `${100 / width}%`, height: `${100 / height}%` });
      const value = this.panels[i].values[y * width + x];
      output.textContent = Number.isFinite(value) ? number(value) : "masked";
    }
  }

  spectrumOf(line) {
    const parts = ["flux", "reconstruction", "error"];
    if (!this.spaxel) return Object.fromEntries(parts.map((part) => [part, [...this.slice(`sum_${part}`, line)]]));
    const [height, width] = this.side;
    const [x, y] = this.spaxel;
    const at = (part) => Array.from({ length: this.samples }, (_, s) => this.data.arrays[part][((line * this.samples + s) * height + y) * width + x]);
    return Object.fromEntries(parts.map((part) => [part, at(part)]));
  }

  where() {
    if (!this.spaxel) return "sum over all spaxels";
    const arcsec = this.survey.meta.spaxel_arcsec;
    const [[height, width], [x, y]] = [this.side, this.spaxel];
    const offset = (at, length) => number((at - (length - 1) / 2) * (arcsec ?? 1), 2);
    return `spaxel ${x}, ${y}: ${offset(x, width)}, ${offset(y, height)} ${arcsec ? "arcsec" : "spaxels"} from the centre`;
  }

  drawSpectra() {
    const { lines } = this.data.meta;
    const { velocity_kms: velocity, flux_unit: fluxUnit } = this.survey.meta;
    const unit = this.spaxel ? fluxUnit : fluxUnit.replace(" spaxel⁻¹", "");
    const label = (line) => `${this.plateifu}, ${line.name}, ${this.where()}: flux and reconstruction`;
    const one = this.samples === 1 ? " · one sample per line" : "";
    const small = (i) => element("figure", {}, element("figcaption", {}, lines[i].name), spectrum(this.spectrumOf(i), { label: label(lines[i]), velocity }));
    this.spectra.replaceChildren(
      element("h3", {}, "Spectra", element("span", { class: "soft num", id: "spaxel", role: "status" }, `  ${this.where()}`), this.spaxel ? element("button", { type: "button", class: "quiet", onclick: () => this.chooseAll() }, "Sum of all") : element("span", { class: "note" }, "click a map, or use the arrow keys on it, to choose a spaxel")),
      element("div", { class: "spectra" },
        element("figure", { class: "chosen" }, element("figcaption", {}, element("b", {}, lines[this.line].name), element("span", { class: "soft" }, `  flux (${unit})`)), spectrum(this.spectrumOf(this.line), { label: label(lines[this.line]), velocity, axes: true })),
        element("div", { class: "others" }, ...this.shownLines.map(small))),
      element("p", { class: "note legend" }, element("i", { class: "step" }), "observed, ±1 σ shaded ", element("i", { class: "step rebuilt" }), `reconstruction · each line on its own flux scale${one}`));
  }
}
