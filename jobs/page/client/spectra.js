// Spectra of windows as SVG: data as steps with a band of one standard deviation, and the reconstruction over them.
import { element, number, svg } from "./dom.js";

const [WIDTH, HEIGHT] = [100, 60];

function limits(...series) {
  const values = series.flatMap((values) => [...values]).filter(Number.isFinite);
  if (!values.length) return [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = 0.1 * (high - low) || 0.1 * Math.abs(high) || 1;
  return [low - margin, high + margin];
}

function steps(values, y) {
  const width = WIDTH / values.length;
  let [path, connected] = ["", false];
  values.forEach((value, i) => {
    const good = Number.isFinite(value);
    if (good) path += `${connected ? "L" : "M"}${(i * width).toFixed(2)} ${y(value).toFixed(2)}H${((i + 1) * width).toFixed(2)}`;
    connected = good;
  });
  return path;
}

function band(values, error, y) {
  const width = WIDTH / values.length;
  return [...values].map((value, i) => (Number.isFinite(value) && Number.isFinite(error[i])
    ? `M${(i * width).toFixed(2)} ${y(value + error[i]).toFixed(2)}h${width.toFixed(2)}V${y(value - error[i]).toFixed(2)}h${(-width).toFixed(2)}Z` : "")).join("");
}

// The reconstruction is drawn only where there are data to compare it with; masked samples have none.
export function spectrum({ flux, reconstruction, error }, { label, velocity, axes = false }) {
  const shown = reconstruction.map((value, i) => (Number.isFinite(flux[i]) ? value : NaN));
  const [low, high] = limits(flux, shown);
  const y = (value) => Math.min(HEIGHT, Math.max(0, ((high - value) / (high - low)) * HEIGHT));
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  if (low < 0 && high > 0) drawing.append(svg("path", { class: "zero", d: `M0 ${y(0)}H${WIDTH}` }));
  drawing.append(svg("path", { class: "centre", d: `M${WIDTH / 2} 0V${HEIGHT}` }), svg("path", { class: "band", d: band(flux, error, y) }),
    svg("path", { class: "observed", d: steps(flux, y) }), svg("path", { class: "rebuilt", d: steps(shown, y) }));
  const empty = !flux.some(Number.isFinite);
  const ends = velocity.length > 1 ? [number(velocity[0], 3), `+${number(velocity[velocity.length - 1], 3)}`] : ["", ""];
  return element("div", { class: axes ? "spectrum axes" : "spectrum" },
    element("div", { class: "plot" }, drawing, empty && element("span", { class: "empty" }, "masked")),
    axes && element("span", { class: "y num", "aria-hidden": "true" }, element("span", {}, number(high, 3)), element("span", {}, number(low, 3))),
    axes && element("span", { class: "x num", "aria-hidden": "true" }, element("span", {}, ends[0]), element("span", {}, "velocity (km s⁻¹)"), element("span", {}, ends[1])));
}
