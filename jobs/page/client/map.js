// The map of latents on a canvas, without a library: 2-D with a lasso, or 3-D that can be turned; coloured by any column.
import { colouring, NONE } from "./colours.js";
import { byId, element, number } from "./dom.js";
import { columnOptions } from "./menu.js";
import { inside } from "./polygon.js";
import { Plane, Space } from "./projection.js";
import { drawFrame, sprite } from "./points.js";

const LEAST_PIXELS = 4; // a press that moves less is a click
const REACH = { mouse: 8, touch: 20, pen: 12 }; // pixels between pointer and galaxy
const FAINT = 0.16;

export class LatentMap {
  constructor(survey, open) {
    [this.survey, this.open, this.dimensions, this.mode] = [survey, open, 2, "lasso"];
    this.box = byId("map");
    this.canvas = element("canvas", { tabindex: 0, role: "img", "aria-label": "Map of latents. Arrow keys pan or turn, plus and minus zoom, 0 resets; the gallery lists the same galaxies." });
    this.box.append(this.canvas);
    this.tip = element("div", { class: "tip num", hidden: true });
    document.body.append(this.tip);
    this.pointers = new Map();
    this.corners = null;
    this.chooseColumns();
    this.listen();
    this.setDimensions(2);
    new ResizeObserver(() => this.draw()).observe(this.box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    survey.addEventListener("shown", () => this.later());
    survey.addEventListener("labels", () => { this.colours = null; this.later(); });
    // Position of a galaxy on the canvas; tests click there.
    this.box.where = (row) => [this.x[row], this.y[row]];
  }

  chooseColumns() {
    const colourable = [...this.survey.columns.values()].filter((column) => column.kind !== "text");
    byId("map-colour").append(...columnOptions(this.survey, colourable));
    byId("map-colour").value = "score";
    byId("map-colour").addEventListener("change", () => { this.colours = null; this.draw(); });
  }

  listen() {
    const { canvas } = this;
    for (const button of document.querySelectorAll("[data-dimensions]")) button.addEventListener("click", () => this.setDimensions(Number(button.dataset.dimensions)));
    for (const button of document.querySelectorAll("[data-mode]")) button.addEventListener("click", () => this.setMode(button.dataset.mode));
    byId("map-reset").addEventListener("click", () => { this.view.reset(); this.draw(); });
    byId("lasso-clear").addEventListener("click", () => this.survey.setLasso(null));
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", (event) => { this.pointers.delete(event.pointerId); this.corners = null; this.draw(); });
    canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.view.zoom(Math.exp(event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), this.at(event), this.width, this.height); this.later(); }, { passive: false });
    canvas.addEventListener("dblclick", () => { this.view.reset(); this.draw(); });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  setDimensions(dimensions) {
    this.dimensions = dimensions;
    press("dimensions", dimensions);
    const names = dimensions === 2 ? ["umap_1", "umap_2"] : ["umap3_1", "umap3_2", "umap3_3"];
    const columns = names.map((name) => this.survey.columns.get(name).data);
    this.view = dimensions === 2 ? new Plane(columns) : new Space(columns);
    byId("map-modes").hidden = dimensions === 3;
    this.draw();
  }

  setMode(mode) {
    this.mode = mode;
    press("mode", mode);
    this.draw();
  }

  // The gallery is updated first; the map is drawn a frame later, once for all changes until then.
  later() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => requestAnimationFrame(() => { this.pending = null; this.draw(); }));
  }

  get lassoing() { return this.dimensions === 2 && this.mode === "lasso"; }

  draw() {
    [this.width, this.height] = [this.box.clientWidth, this.box.clientHeight];
    if (!this.width || !this.height) return;
    const ratio = window.devicePixelRatio || 1;
    const { canvas, survey } = this;
    canvas.width = Math.round(this.width * ratio);
    canvas.height = Math.round(this.height * ratio);
    const draw = canvas.getContext("2d");
    draw.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const theme = Object.fromEntries(["soft", "line", "card", "link"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.colours ??= colouring(survey.columns.get(byId("map-colour").value), survey.meta.palettes.flux);
    [this.x, this.y, this.depth] = this.view.place(this.width, this.height);
    const kind = (survey.value("embedding", 0) ?? "umap").toUpperCase();
    drawFrame(draw, this.view, { ...theme, width: this.width, height: this.height, kind });
    this.drawPoints(draw, ratio, theme);
    if (this.corners) this.drawLasso(draw, theme.link);
    byId("map-key").replaceChildren(this.colours.key);
    byId("map-note").textContent = `${method(survey.value("embedding", 0))} ${this.lassoing ? "Drag a lasso for a subset; click a point for its galaxy." : this.dimensions === 2 ? "Drag to pan, wheel or pinch to zoom; click a point for its galaxy." : "Drag to turn; click a point for its galaxy."} Only small distances are meaningful.`;
    this.box.dataset.ready = "true";
  }

  drawPoints(draw, ratio, theme) {
    const { survey, colours } = this;
    const radius = (survey.count > 3000 ? 2.2 : survey.count > 500 ? 3.2 : 5) * (this.dimensions === 3 ? 0.85 : 1);
    const edge = survey.count > 3000 ? null : theme.card;
    const sprites = colours.shades.map((colour) => sprite(colour, radius, ratio, edge));
    const none = sprite(NONE, radius, ratio, edge);
    const passing = new Uint8Array(survey.count);
    for (const row of survey.passing) passing[row] = !survey.lasso || survey.lasso.has(row) ? 2 : 1;
    const size = none.width / ratio;
    // Rows are in order of rank: the most unusual galaxies are drawn last, on top; in 3-D the nearest ones are.
    const order = Array.from({ length: survey.count }, (_, i) => survey.count - 1 - i);
    if (this.depth) order.sort((a, b) => this.depth[a] - this.depth[b]);
    for (const level of [0, 1, 2]) {
      draw.globalAlpha = level === 2 ? 0.92 : FAINT;
      for (const row of order) {
        if (passing[row] !== level || !Number.isFinite(this.x[row])) continue;
        const shade = level ? colours.of(row) : -1;
        draw.drawImage(shade < 0 ? none : sprites[shade], this.x[row] - size / 2, this.y[row] - size / 2, size, size);
      }
    }
    draw.globalAlpha = 1;
  }

  drawLasso(draw, colour) {
    draw.beginPath();
    for (const [x, y] of this.corners) draw.lineTo(x, y);
    draw.closePath();
    [draw.strokeStyle, draw.fillStyle, draw.lineWidth] = [colour, colour, 1.5];
    draw.stroke();
    draw.globalAlpha = 0.1;
    draw.fill();
    draw.globalAlpha = 1;
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  press(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.at(event));
    this.tip.hidden = true;
    this.moved = this.pointers.size > 1;
    this.corners = this.lassoing && this.pointers.size === 1 ? [this.at(event)] : null;
    this.origin = this.at(event);
  }

  move(event) {
    const [x, y] = this.at(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) { if (event.pointerType === "mouse") this.hover(event); return; }
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    this.pointers.set(event.pointerId, [x, y]);
    this.moved ||= Math.hypot(x - this.origin[0], y - this.origin[1]) > LEAST_PIXELS;
    if (others.length) {
      const [other] = others;
      const distance = (place) => Math.max(10, Math.hypot(place[0] - other[0], place[1] - other[1]));
      this.view.zoom(distance(before) / distance([x, y]), [(x + other[0]) / 2, (y + other[1]) / 2], this.width, this.height);
    } else if (this.corners) this.corners.push([x, y]);
    else if (this.moved) this.view.drag(x - before[0], y - before[1], this.width, this.height);
    else return;
    this.later();
  }

  release(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    const { corners } = this;
    this.corners = null;
    if (!this.moved) this.openAt(event);
    else if (corners) this.survey.setLasso(new Set(this.survey.passing.filter((row) => inside(this.x[row], this.y[row], corners))));
    this.later();
  }

  // Row of the galaxy under the pointer: the nearest that passes the filters.
  nearest([x, y], reach) {
    let [best, least] = [null, reach * reach];
    for (const row of this.survey.passing) {
      const distance = (this.x[row] - x) ** 2 + (this.y[row] - y) ** 2;
      if (distance < least) [best, least] = [row, distance];
    }
    return best;
  }

  openAt(event) {
    const row = this.nearest(this.at(event), REACH[event.pointerType] ?? REACH.mouse);
    if (row !== null) this.open(row);
  }

  hover(event) {
    const row = this.nearest(this.at(event), REACH.mouse);
    this.canvas.style.cursor = row === null ? (this.lassoing ? "crosshair" : "grab") : "pointer";
    this.tip.hidden = row === null;
    if (row === null) return;
    const of = (name) => { const value = this.survey.value(name, row); return typeof value === "number" ? number(value) : value ?? "none"; };
    const colour = byId("map-colour").value;
    const more = ["score", "rank", "z"].includes(colour) ? [] : [element("br"), `${colour} ${of(colour)}`];
    this.tip.replaceChildren(element("b", {}, this.survey.names[row]), element("br"), `rank ${this.survey.value("rank", row)} · score ${of("score")} · z ${of("z")}`, ...more);
    this.tip.style.left = `${Math.min(event.clientX + 12, innerWidth - 220)}px`;
    this.tip.style.top = `${Math.min(event.clientY + 12, innerHeight - 70)}px`;
  }

  key(event) {
    const by = { ArrowLeft: [24, 0], ArrowRight: [-24, 0], ArrowUp: [0, 24], ArrowDown: [0, -24] }[event.key];
    const zoom = { "+": 0.8, "=": 0.8, "-": 1.25 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !(by || zoom || event.key === "0")) return;
    event.preventDefault();
    event.stopPropagation();
    if (by) this.view.drag(...by, this.width, this.height);
    else if (zoom) this.view.zoom(zoom, [this.width / 2, this.height / 2], this.width, this.height);
    else this.view.reset();
    this.later();
  }
}

function method(embedding) {
  return { umap: "UMAP of the latents.", pca: "PCA of the latents: too few galaxies for UMAP.", none: "No map: all latents are identical." }[embedding] ?? "Map of the latents.";
}

function press(name, value) {
  for (const button of document.querySelectorAll(`button[data-${name}]`)) button.setAttribute("aria-pressed", String(button.dataset[name] === String(value)));
}
