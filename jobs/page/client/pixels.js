// Maps of spaxels on canvases: one pixel per spaxel, the first row of the array at the bottom; transparent without a value.

// Colours follow asinh(value / softening): linear below it, logarithmic above; with 0 they are linear everywhere.
export function paint(canvas, values, [height, width], [low, high], palette, softening = 0) {
  canvas.width = width;
  canvas.height = height;
  const draw = canvas.getContext("2d");
  const image = draw.createImageData(width, height);
  const scale = softening ? (value) => Math.asinh(value / softening) : (value) => value;
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
