// A lasso over the 2-D map. Plotly's own redraws all points at each move; this draws a line, and looks at them once.
import { svg } from "./dom.js";

const LEAST_PIXELS = 4;

export class Lasso {
  // `chosen` gets the corners, in pixels of the plot's area; `clicked` is for a press that did not move.
  constructor(box, { active, chosen, clicked }) {
    Object.assign(this, { box, active, chosen, clicked });
    box.addEventListener("mousedown", (event) => this.begin(event), true);
    window.addEventListener("mousemove", (event) => this.move(event), true);
    window.addEventListener("mouseup", (event) => this.end(event), true);
  }

  begin(event) {
    if (event.button !== 0 || !this.active() || !event.target.closest(".nsewdrag")) return;
    event.stopPropagation();
    event.preventDefault();
    this.area = event.target.getBoundingClientRect();
    this.corners = [this.at(event)];
    const ground = this.box.getBoundingClientRect();
    this.path = svg("path", { transform: `translate(${this.area.left - ground.left} ${this.area.top - ground.top})` });
    this.drawing = svg("svg", { class: "lasso", "aria-hidden": "true" }, this.path);
    this.box.append(this.drawing);
  }

  at(event) {
    return [event.clientX - this.area.left, event.clientY - this.area.top];
  }

  move(event) {
    if (!this.corners) return;
    event.stopPropagation();
    this.corners.push(this.at(event));
    this.path.setAttribute("d", `M${this.corners.map((corner) => corner.join(" ")).join("L")}Z`);
  }

  end(event) {
    if (!this.corners) return;
    event.stopPropagation();
    const { corners } = this;
    this.corners = null;
    this.drawing.remove();
    const [x, y] = corners[0];
    const moved = corners.some((corner) => Math.hypot(corner[0] - x, corner[1] - y) > LEAST_PIXELS);
    if (moved) this.chosen(corners);
    else this.clicked();
  }
}

// Whether a point is inside a polygon: a ray from it crosses the border an odd number of times.
export function inside(x, y, corners) {
  let odd = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
    const [[x1, y1], [x2, y2]] = [corners[i], corners[j]];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) odd = !odd;
  }
  return odd;
}
