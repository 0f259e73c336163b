// Colours of galaxies by a column, and the key beside the map.
import { element, number } from "./dom.js";
import { gradient } from "./pixels.js";

// Okabe and Ito's colours, which colour-blind people can distinguish; further categories repeat them in order.
const CATEGORIES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8ad1f", "#7a5195"];
export const NONE = "#9aa3ad";
const SHADES = 64;

// {shades: colours, of: (row) => index into them or -1, key: element}. The scale is logarithmic over a decade or more.
export function colouring(column, palette) {
  return column.kind === "category" ? byCategory(column) : byNumber(column, palette);
}

function byCategory(column) {
  const present = [...new Set(column.data)].sort((a, b) => (a < 0) - (b < 0) || a - b);
  const key = element("div", { class: "key" }, ...present.map((code) => {
    const dot = element("i");
    dot.style.background = code < 0 ? NONE : CATEGORIES[code % CATEGORIES.length];
    return element("span", {}, dot, code < 0 ? "none" : column.categories[code]);
  }));
  return { shades: CATEGORIES, of: (row) => (column.data[row] < 0 ? -1 : column.data[row] % CATEGORIES.length), key };
}

function byNumber(column, palette) {
  const sorted = column.data.filter(Number.isFinite).sort();
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))] ?? 0;
  const log = sorted[0] > 0 && at(0.99) > 10 * at(0.01);
  const scale = log ? Math.log10 : (value) => value;
  const [low, high] = [scale(at(0.01)), scale(at(0.99))];
  const width = high > low ? high - low : 1;
  const shades = Array.from({ length: SHADES }, (_, i) => `rgb(${palette[Math.round((i / (SHADES - 1)) * (palette.length - 1))].join(" ")})`);
  const of = (row) => {
    const value = scale(column.data[row]);
    return Number.isFinite(value) ? Math.round(Math.min(1, Math.max(0, (value - low) / width)) * (SHADES - 1)) : -1;
  };
  const bar = element("i", { class: "bar" });
  bar.style.background = gradient(palette);
  const values = [0, 1, 2, 3, 4].map((i) => low + (width * i) / 4).map((value) => number(log ? 10 ** value : value, 2));
  const key = element("div", { class: "key number" }, bar, element("div", { class: "ends num" }, ...values.map((text) => element("span", {}, text))),
    element("p", { class: "note" }, `${column.name}${column.unit ? ` (${column.unit})` : ""}${log ? ", logarithmic" : ""}; from the 1st to the 99th percentile`));
  return { shades, of, key };
}
