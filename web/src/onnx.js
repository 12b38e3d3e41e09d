// The facts that our exporter writes into an ONNX file (docs/onnx.md), read from its bytes.

const METADATA_PROPS = 14; // the field of ModelProto in onnx.proto

/** The fields of a protobuf message: [number, value], a value being bytes or a number. Groups do not occur. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let [value, factor] = [0, 1];
    for (;;) {
      const byte = bytes[at++];
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 128;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const [number, type] = [Math.floor(tag / 8), tag % 8];
    if (type === 0) {
      yield [number, varint()];
    } else {
      const size = type === 2 ? varint() : type === 1 ? 8 : 4;
      yield [number, bytes.subarray(at, at + size)];
      at += size;
    }
  }
}

/** The metadata of an ONNX model, an object. Values are JSON. */
export function metadata(bytes) {
  const text = new TextDecoder();
  const facts = {};
  for (const [number, entry] of fields(bytes)) {
    if (number !== METADATA_PROPS) continue;
    const { 1: key, 2: value } = Object.fromEntries(fields(entry));
    facts[text.decode(key)] = JSON.parse(text.decode(value));
  }
  return facts;
}
