// A map of answers: every start's answers as points in a plane, by principal component analysis.

import { line, svg } from "./svg.js";

const [SIZE, EDGE] = [220, 16];

/** The products of vectors with each other, grown one vector at a time. */
class Products {
  vectors = [];
  rows = [];

  add(vector) {
    this.vectors.push(vector);
    this.rows.push(Float64Array.from(this.vectors, (other) => vector.reduce((sum, x, i) => sum + x * other[i], 0)));
  }

  at(i, j) {
    return i < j ? this.rows[j][i] : this.rows[i][j];
  }
}

/** The two principal coordinates of centred vectors, by power iteration from the coordinates before. */
function coordinates(products, before) {
  const n = products.rows.length;
  const means = Float64Array.from({ length: n }, (_, i) => {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += products.at(i, j);
    return sum / n;
  });
  const mean = means.reduce((sum, value) => sum + value, 0) / n;
  const times = (x) =>
    Float64Array.from({ length: n }, (_, i) => {
      let sum = 0;
      for (let j = 0; j < n; j++) sum += (products.at(i, j) - means[i] - means[j] + mean) * x[j];
      return sum;
    });
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  const axes = [];
  for (let axis = 0; axis < 2; axis++) {
    let x = Float64Array.from({ length: n }, (_, i) => before[i]?.[axis] || Math.sin(1 + i * (axis + 2)) * 1e-3);
    for (let step = 0; step < 12; step++) {
      for (const { unit } of axes) {
        const along = dot(x, unit);
        x = x.map((value, i) => value - along * unit[i]);
      }
      const size = Math.sqrt(dot(x, x)) || 1;
      x = times(x.map((value) => value / size));
    }
    const length = Math.sqrt(dot(x, x)) || 1;
    axes.push({ unit: x.map((value) => value / length), scale: Math.sqrt(length) });
  }
  return Array.from({ length: n }, (_, i) => axes.map(({ unit, scale }) => unit[i] * scale));
}

/** A map in a <figure>. */
export class AnswerMap {
  constructor(figure) {
    this.drawing = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", "aria-label": "Map of answers" });
    figure.prepend(this.drawing);
    this.clear();
  }

  clear() {
    this.products = new Products();
    this.points = [];
    this.starts = 0;
    this.drawing.replaceChildren();
  }

  /** Adds the answers of an iteration, one vector of probabilities for every start. */
  add(vectors) {
    this.starts = vectors.length;
    for (const vector of vectors) this.products.add(vector);
    this.points = coordinates(this.products, this.points);
  }

  /** Draws the ways up to an iteration. `solved` [start] says whose answer keeps the rules by then. */
  draw(shown, iteration, solved) {
    const [xs, ys] = [0, 1].map((axis) => this.points.map((point) => point[axis]));
    const spread = Math.max(1e-6, ...[xs, ys].map((values) => Math.max(...values) - Math.min(...values)));
    const place = (values, value) =>
      SIZE / 2 + ((value - (Math.max(...values) + Math.min(...values)) / 2) / spread) * (SIZE - 2 * EDGE);
    const at = (start, i) => {
      const [x, y] = this.points[i * this.starts + start];
      return [place(xs, x), place(ys, y)];
    };
    const parts = [];
    const order = [...Array(this.starts).keys()].sort((a, b) => (a === shown) - (b === shown));
    for (const start of iteration ? order : []) {
      const way = Array.from({ length: iteration }, (_, i) => at(start, i));
      const name = `start-${start}${start === shown ? " shown" : ""}`;
      const [x, y] = way.at(-1);
      parts.push(svg("path", { d: line(way), class: `trail ${name}` }));
      parts.push(...way.slice(0, -1).map(([cx, cy]) => svg("circle", { cx, cy, r: 1.6, class: `step ${name}` })));
      if (solved[start]) parts.push(svg("circle", { cx: x, cy: y, r: 10, class: "goal" }));
      parts.push(svg("circle", { cx: x, cy: y, r: start === shown ? 5 : 4, class: `dot ${name}` }));
    }
    this.drawing.replaceChildren(...parts);
    const there = solved.filter(Boolean).length;
    const label = iteration ? `After iteration ${iteration}, ${there} of ${this.starts} starts have a right answer` : "Empty";
    this.drawing.setAttribute("aria-label", `Map of answers. ${label}.`);
  }
}
