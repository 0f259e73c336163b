// Drawing on the map's canvas: discs, and the frame around them.
import { Plane, ticks } from "./projection.js";

// A disc on its own canvas: drawing ten thousand copies of an image is faster than as many paths.
export function sprite(colour, radius, ratio, edge) {
  const canvas = document.createElement("canvas");
  const side = Math.ceil((2 * radius + 2) * ratio);
  canvas.width = canvas.height = side;
  const draw = canvas.getContext("2d");
  draw.beginPath();
  draw.arc(side / 2, side / 2, radius * ratio, 0, 2 * Math.PI);
  draw.fillStyle = colour;
  draw.fill();
  if (edge) { draw.strokeStyle = edge; draw.lineWidth = 0.75 * ratio; draw.stroke(); }
  return canvas;
}

export function drawFrame(draw, view, theme) {
  draw.font = '11px system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif';
  draw.fillStyle = theme.soft;
  draw.strokeStyle = theme.line;
  draw.lineWidth = 1;
  if (view instanceof Plane) drawAxes(draw, view, theme);
  else drawCube(draw, view, theme);
}

function line(draw, x1, y1, x2, y2) {
  draw.beginPath();
  draw.moveTo(x1, y1);
  draw.lineTo(x2, y2);
  draw.stroke();
}

function drawAxes(draw, view, { width, height, kind }) {
  const { left, top, width: across, height: up } = view.area(width, height);
  const bottom = top + up;
  const [[x0, x1], [y0, y1]] = view.range;
  draw.textAlign = "center";
  for (const tick of ticks([x0, x1], Math.max(2, across / 90))) {
    const x = left + ((tick - x0) / (x1 - x0)) * across;
    line(draw, x, top, x, bottom);
    draw.fillText(text(tick), x, bottom + 14);
  }
  draw.textAlign = "right";
  for (const tick of ticks([y0, y1], Math.max(2, up / 60))) {
    const y = bottom - ((tick - y0) / (y1 - y0)) * up;
    line(draw, left, y, left + across, y);
    draw.fillText(text(tick), left - 5, y + 4);
  }
  draw.textAlign = "center";
  draw.fillText(`${kind} 1`, left + across / 2, height - 4);
  draw.save();
  draw.translate(9, top + up / 2);
  draw.rotate(-Math.PI / 2);
  draw.fillText(`${kind} 2`, 0, 0);
  draw.restore();
}

function drawCube(draw, view, { width, height, kind }) {
  const at = (corner) => view.project(corner, width, height);
  for (const axis of [0, 1, 2]) {
    for (const [a, b] of [[-1, -1], [-1, 1], [1, -1], [1, 1]]) {
      const ends = [-1, 1].map((end) => { const corner = [a, b]; corner.splice(axis, 0, end); return at(corner); });
      line(draw, ends[0][0], ends[0][1], ends[1][0], ends[1][1]);
    }
  }
  draw.textAlign = "center";
  for (const axis of [0, 1, 2]) {
    // beside the edge that is outermost on the screen, where there are no points
    const places = [[-1, -1], [-1, 1], [1, -1], [1, 1]].map((corner) => { corner.splice(axis, 0, 0); return at(corner).slice(0, 2); });
    const out = ([x, y]) => Math.hypot(x - width / 2, y - height / 2);
    const [x, y] = places.reduce((best, place) => (out(place) > out(best) ? place : best));
    draw.fillText(`${kind} ${axis + 1}`, x + (22 * (x - width / 2)) / out([x, y]), y + 4 + (14 * (y - height / 2)) / out([x, y]));
  }
}

const text = (tick) => String(tick).replace("-", "−");
