// Reads the messages that jobs/page/pack.py writes.
const TYPES = { float64: Float64Array, float32: Float32Array, int32: Int32Array, uint8: Uint8Array };

export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const { name, dtype, shape, offset } of head.arrays) {
    const count = shape.reduce((product, size) => product * size, 1);
    arrays[name] = new TYPES[dtype](buffer, 4 + length + offset, count);
    arrays[name].shape = shape;
  }
  return { meta: head.meta, arrays };
}
