// Maps of spaxels on canvases: one pixel a spaxel, north up as the array lies; transparent where there is no value.
const SOFTENING = 0.1; // of the asinh stretch, as in jobs/page/figures.py

export function paint(canvas, values, [height, width], [low, high], palette, asinh = false) {
  canvas.width = width;
  canvas.height = height;
  const draw = canvas.getContext("2d");
  const image = draw.createImageData(width, height);
  const soft = SOFTENING * high;
  const scale = asinh ? (value) => Math.asinh(value / soft) : (value) => value;
  const [first, last] = [scale(low), scale(high)];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = values[y * width + x];
      if (!Number.isFinite(value)) continue;
      const share = (scale(Math.min(high, Math.max(low, value))) - first) / (last - first);
      const [r, g, b] = palette[Math.round(share * (palette.length - 1))];
      image.data.set([r, g, b, 255], 4 * ((height - 1 - y) * width + x));
    }
  }
  draw.putImageData(image, 0, 0);
}

export function gradient(palette) {
  const stops = Array.from({ length: 9 }, (_, i) => palette[Math.round((i / 8) * (palette.length - 1))]);
  return `linear-gradient(to right, ${stops.map((colour) => `rgb(${colour.join(" ")})`).join(", ")})`;
}
