// Projections from coordinates of the map to pixels: a plane that pans and zooms, and a space that turns.
const MARGIN = { left: 44, right: 12, top: 10, bottom: 34 };
const SPACE = 1.08; // size of the frame relative to that of the points

export function bounds(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  return low < high ? [low, high] : Number.isFinite(low) ? [low - 1, high + 1] : [0, 1];
}

export class Plane {
  constructor(columns) {
    this.columns = columns;
    this.home = columns.map((values) => { const [low, high] = bounds(values); const half = ((high - low) / 2) * SPACE; return [(low + high) / 2 - half, (low + high) / 2 + half]; });
    this.reset();
  }

  reset() { this.range = this.home.map((range) => [...range]); }

  area(width, height) {
    return { left: MARGIN.left, top: MARGIN.top, width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  }

  // Pixel positions of all rows: [x, y].
  place(width, height) {
    const area = this.area(width, height);
    const [[x0, x1], [y0, y1]] = this.range;
    const [sx, sy] = [area.width / (x1 - x0), area.height / (y1 - y0)];
    return [
      Float32Array.from(this.columns[0], (value) => area.left + (value - x0) * sx),
      Float32Array.from(this.columns[1], (value) => area.top + area.height - (value - y0) * sy),
    ];
  }

  zoom(factor, [x, y], width, height) {
    const area = this.area(width, height);
    const at = [(x - area.left) / area.width, 1 - (y - area.top) / area.height];
    this.range = this.range.map(([low, high], i) => {
      const fixed = low + at[i] * (high - low);
      return [fixed + (low - fixed) * factor, fixed + (high - fixed) * factor];
    });
  }

  drag(dx, dy, width, height) {
    const area = this.area(width, height);
    const by = [-dx / area.width, dy / area.height];
    this.range = this.range.map(([low, high], i) => [low + by[i] * (high - low), high + by[i] * (high - low)]);
  }
}

export class Space {
  constructor(columns) {
    this.columns = columns;
    this.box = columns.map((values) => { const [low, high] = bounds(values); return [(low + high) / 2, (high - low) / 2]; });
    this.reset();
  }

  reset() { [this.turn, this.tilt, this.size] = [-0.6, 0.45, 1]; }

  // Pixel position and depth of a point of the cube -1 .. 1; nearer points have a larger depth.
  project([x, y, z], width, height) {
    const [st, ct, si, ci] = [Math.sin(this.turn), Math.cos(this.turn), Math.sin(this.tilt), Math.cos(this.tilt)];
    const [across, away] = [x * ct - y * st, x * st + y * ct];
    const scale = (0.29 * Math.min(width, height) * this.size);
    return [width / 2 + across * scale, height / 2 - (z * ci - away * si) * scale, -(away * ci + z * si)];
  }

  place(width, height) {
    const count = this.columns[0].length;
    const [px, py, depth] = [new Float32Array(count), new Float32Array(count), new Float32Array(count)];
    for (let row = 0; row < count; row++) {
      const unit = this.columns.map((values, i) => (values[row] - this.box[i][0]) / this.box[i][1]);
      [px[row], py[row], depth[row]] = this.project(unit, width, height);
    }
    return [px, py, depth];
  }

  zoom(factor) { this.size = Math.min(8, Math.max(0.4, this.size / factor)); }

  drag(dx, dy) {
    this.turn -= dx / 150;
    this.tilt = Math.min(1.5, Math.max(-1.5, this.tilt + dy / 150));
  }
}

// Round numbers within a range, about `about` of them.
export function ticks([low, high], about = 5) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + 1e-9 * step; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}
