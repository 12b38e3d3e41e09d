// The worker: it holds the models and moves the latents, so that the page never waits. It answers one call at a time.

import { Model, hasGpu, runtime } from "./model.js";
import { random } from "./random.js";
import { answer, probabilities, residual } from "./trajectory.js";

const models = {};
let engine;
let run;

/** The model of a task, after a first iteration on a GPU, where that may fail. */
async function usable(task) {
  const url = new URL(`../models/${task}.onnx`, import.meta.url);
  const model = await Model.load(engine, url, (part) => postMessage({ progress: part }));
  const next = random(0);
  if (engine.engine === "webgpu") await model.iterate(Array(model.facts.seq_len).fill(1), model.start(1, next), next);
  return model;
}

const calls = {
  /** Loads the model of a task, if it is not there yet. Returns what computes. */
  async load({ task, engine: asked }) {
    engine ??= await runtime(asked ?? ((await hasGpu()) ? "webgpu" : "wasm"));
    if (!models[task]) {
      try {
        models[task] = await usable(task);
      } catch (error) {
        if (asked || engine.engine === "wasm") throw error;
        engine = await runtime("wasm");
        models[task] = await usable(task);
      }
    }
    return { engine: engine.engine, threads: engine.threads };
  },

  /** Draws fresh starts for a puzzle. */
  begin({ task, puzzle, breadth, seed }) {
    const next = random(seed);
    run = { model: models[task], puzzle, next, latents: models[task].start(breadth, next), logits: null };
  },

  /** Makes one outer iteration. Returns milliseconds and rows: {answer, probabilities, residual, qHalt}. */
  async iterate() {
    const mine = run;
    const { model, puzzle, next, latents, logits: before } = mine;
    const vocabulary = model.facts.vocab_size;
    const began = performance.now();
    const { latents: moved, logits, qHalt } = await model.iterate(puzzle, latents, next);
    const milliseconds = performance.now() - began;
    Object.assign(mine, { latents: moved, logits });
    const rows = logits.map((row, i) => ({
      answer: answer(row, vocabulary),
      probabilities: probabilities(row, vocabulary),
      residual: before ? residual(row, before[i], vocabulary) : NaN,
      qHalt: qHalt[i],
    }));
    return { milliseconds, rows };
  },
};

let last = Promise.resolve();
onmessage = ({ data: { id, call, words } }) => {
  last = last
    .then(() => calls[call](words))
    .then((result) => postMessage({ id, result }))
    .catch((error) => postMessage({ id, error: String(error?.message ?? error) }));
};
