// Reads the messages that jobs/page/pack.py writes, and restores the arrays that jobs/page/compact.py rounded.
const TYPES = { float64: Float64Array, float32: Float32Array, float16: Uint16Array, int32: Int32Array, int16: Int16Array, uint8: Uint8Array };
const MISSING = -32768;

export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const item of head.arrays) {
    const count = item.shape.reduce((product, size) => product * size, 1);
    const values = new TYPES[item.dtype](buffer, 4 + length + item.offset, count);
    arrays[item.name] = restored(item.planes ? joined(values) : values, item, arrays);
    arrays[item.name].shape = item.shape;
  }
  return { meta: head.meta, arrays };
}

// All low bytes come before all high bytes, which compresses better.
function joined(values) {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return values.map((_, i) => bytes[i] | (bytes[i + values.length] << 8));
}

// An array comes before those that are in units of it.
function restored(values, { dtype, scale = 1, step, of, log_step: logStep }, arrays) {
  if (logStep) return Float32Array.from(values, (value) => (value === MISSING ? NaN : Math.exp(value * logStep)));
  if (step) return Float32Array.from(values, (value, i) => value * step * arrays[of][i]);
  if (dtype !== "float16") return values;
  const table = halves();
  return Float32Array.from(values, (bits) => table[bits] * scale);
}

// Values of all 65536 half-precision floats, since browsers have a Float16Array only since 2025.
let table16 = null;
function halves() {
  if (table16) return table16;
  table16 = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
    const size = exponent === 0 ? fraction * 2 ** -24 : exponent < 31 ? (1024 + fraction) * 2 ** (exponent - 25) : fraction ? NaN : Infinity;
    table16[bits] = bits & 32768 ? -size : size;
  }
  return table16;
}
