// A chart of one number by iteration: a line for every start, the shown one on top.

import { line, svg } from "./svg.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [360, 92, 34, 8, 8, 16];

/** A chart in a <figure>. `scale` says how values lie: {low, high, log, ticks, text}. `pick(iteration)` hears of clicks. */
export class Chart {
  constructor(figure, scale, pick) {
    Object.assign(this, { figure, scale });
    this.output = figure.querySelector("output");
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    figure.append(this.drawing);
    this.drawing.addEventListener("pointerdown", (event) => {
      const box = this.drawing.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * WIDTH;
      pick(Math.round(1 + ((x - LEFT) / (WIDTH - LEFT - RIGHT)) * (this.depth - 1)));
    });
  }

  #x(iteration) {
    return LEFT + ((iteration - 1) / Math.max(1, this.depth - 1)) * (WIDTH - LEFT - RIGHT);
  }

  #y(value, low, high) {
    const bend = this.scale.log ? Math.log10 : (number) => number;
    const part = (bend(Math.min(high, Math.max(low, value))) - bend(low)) / (bend(high) - bend(low));
    return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM);
  }

  /** Draws values [start][iteration], of which one start and one iteration (from 1; 0 for none) are shown. */
  draw(values, depth, shown, iteration) {
    this.depth = depth;
    const finite = values.flat().filter((value) => value > 0);
    const low = Math.min(this.scale.low, ...(this.scale.log ? finite : []));
    const high = Math.max(this.scale.high, ...(this.scale.log ? finite : []));
    const ticks = this.scale.ticks.filter((tick) => tick >= low && tick <= high);
    const parts = ticks.flatMap((tick) => {
      const y = this.#y(tick, low, high);
      const label = svg("text", { x: LEFT - 6, y: y + 3.5, "text-anchor": "end" }, this.scale.text(tick));
      return [svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y, class: "rule" }), label];
    });
    for (const number of new Set([1, Math.ceil(depth / 2), depth])) {
      const anchor = number === 1 ? "start" : number === depth ? "end" : "middle";
      parts.push(svg("text", { x: this.#x(number), y: HEIGHT - 4, "text-anchor": anchor }, number));
    }
    const order = [...values.keys()].sort((a, b) => (a === shown) - (b === shown));
    for (const start of order) {
      const points = values[start].map((value, i) => [this.#x(i + 1), this.#y(value, low, high)]);
      const path = line(points);
      parts.push(svg("path", { d: path, class: `curve start-${start}${start === shown ? " shown" : ""}` }));
    }
    const value = values[shown]?.[iteration - 1];
    if (iteration > 0) {
      const x = this.#x(iteration);
      parts.push(svg("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM, class: "now" }));
      if (value >= 0) {
        parts.push(svg("circle", { cx: x, cy: this.#y(value, low, high), r: 4, class: `dot start-${shown}` }));
      }
    }
    this.drawing.replaceChildren(...parts);
    const known = value !== undefined && !Number.isNaN(value);
    this.output.textContent = known ? this.scale.text(value, true) : "";
    const name = this.figure.querySelector("b").textContent;
    const now = known ? `, ${this.scale.text(value, true)} in iteration ${iteration}` : "";
    this.drawing.setAttribute("aria-label", `${name} by iteration${now}. The table below has all numbers.`);
  }
}
