// The page's side of the worker.

/** Calls the worker. `onprogress` hears how much of a model is loaded, 0 to 1. */
export class Runner {
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #calls = 0;

  constructor(onprogress) {
    this.#worker.onmessage = ({ data }) => {
      if ("progress" in data) return onprogress(data.progress);
      const { resolve, reject } = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if ("error" in data) reject(new Error(data.error));
      else resolve(data.result);
    };
    this.#worker.onerror = (event) => {
      const error = new Error(event.message || "the program in the background could not start");
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    };
  }

  #call(call, words) {
    const id = this.#calls++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, call, words });
    });
  }

  /** Loads the model of a task. Returns {engine, threads}. */
  load(task, engine) {
    return this.#call("load", { task, engine });
  }

  /** Yields the iterations of `breadth` random starts on a puzzle. A caller that stops asking ends them. */
  async *iterations(task, puzzle, depth, breadth, seed) {
    await this.#call("begin", { task, puzzle, breadth, seed });
    for (let i = 0; i < depth; i++) yield await this.#call("iterate");
  }
}
