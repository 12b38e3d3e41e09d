// A model: one outer iteration of a shipped checkpoint, run by onnxruntime-web.

import { metadata } from "./onnx.js";
import { fillNormal } from "./random.js";

/** A runtime on an engine: "webgpu" or "wasm" (WebAssembly), with threads where the host's headers allow them. */
export async function runtime(engine) {
  const ort = await import(`../ort/ort.${engine}.bundle.min.mjs`);
  ort.env.wasm.wasmPaths = new URL("../ort/", import.meta.url).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, Math.ceil(0.75 * navigator.hardwareConcurrency)) : 1;
  return { ort, engine, threads: ort.env.wasm.numThreads };
}

/** Whether this browser has WebGPU on a GPU, rather than a program that stands in for one. */
export async function hasGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter && !adapter.info?.isFallbackAdapter);
}

/** Downloads a file; `progress` hears of the part that is there, 0 to 1. */
async function download(url, progress) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname} cannot be loaded (${response.status})`);
  const size = +response.headers.get("Content-Length");
  const parts = [];
  let loaded = 0;
  for await (const part of chunks(response.body)) {
    parts.push(part);
    loaded += part.length;
    if (size) progress(Math.min(1, loaded / size));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function* chunks(stream) {
  const reader = stream.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
}

/** A model that moves latents. Make one with `Model.load`. */
export class Model {
  constructor(ort, session, facts) {
    Object.assign(this, { ort, session, facts });
  }

  /** Loads a model for a runtime. */
  static async load({ ort, engine }, url, progress) {
    const bytes = await download(url, progress);
    const session = await ort.InferenceSession.create(bytes, { executionProviders: [engine], logSeverityLevel: 3 });
    return new Model(ort, session, metadata(bytes));
  }

  #tensor(shape, values) {
    return new this.ort.Tensor(values instanceof Int32Array ? "int32" : "float32", values, shape);
  }

  /** Random latents for so many rows, by their names in the graph. */
  start(rows, next) {
    return Object.fromEntries(
      this.facts.latents.map(({ name, shape, std }) => {
        const values = new Float32Array(rows * shape[0] * shape[1]);
        return [name, this.#tensor([rows, ...shape], fillNormal(next, values, "starts", std))];
      }),
    );
  }

  /** One outer iteration of rows on one puzzle: new latents, logits [row][cell * vocabulary], qHalt [row]. */
  async iterate(puzzle, latents, next) {
    const { latents: parts, noise, seq_len, vocab_size } = this.facts;
    const [rows, ...shape] = latents[parts[0].name].dims;
    const inputs = new Int32Array(rows * seq_len).map((_, i) => puzzle[i % seq_len]);
    const feeds = { inputs: this.#tensor([rows, seq_len], inputs), ...latents };
    if (noise.draws) {
      const values = new Float32Array(rows * noise.draws * shape[0] * shape[1]);
      feeds.noise = this.#tensor([rows, noise.draws, ...shape], fillNormal(next, values, "noise"));
    }
    const out = await this.session.run(feeds);
    const size = seq_len * vocab_size;
    return {
      latents: Object.fromEntries(parts.map(({ name }) => [name, out[`next_${name}`]])),
      logits: Array.from({ length: rows }, (_, row) => out.logits.data.slice(row * size, (row + 1) * size)),
      qHalt: Array.from(out.q_halt.data),
    };
  }
}
