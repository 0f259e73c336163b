// Whether a point is inside a polygon: a ray from it crosses the border an odd number of times.
export function inside(x, y, corners) {
  let odd = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
    const [[x1, y1], [x2, y2]] = [corners[i], corners[j]];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) odd = !odd;
  }
  return odd;
}
