// A run: all iterations of several starts on a puzzle, and what they say.

import { bestConverged, confidence, convergenceScore } from "./trajectory.js";

/** A run on a puzzle. Iterations are numbered from 1. */
export class Run {
  iterations = [];
  active = true;

  constructor(kind, puzzle, depth, breadth) {
    Object.assign(this, { kind, puzzle, depth, breadth });
    this.several = kind.needsOneSolution && kind.solutions(puzzle) > 1;
    this.residuals = Array.from({ length: breadth }, () => []);
    this.confidences = Array.from({ length: breadth }, () => []);
  }

  /** Takes up an iteration: {milliseconds, rows}. */
  add({ milliseconds, rows }) {
    rows.forEach((row, start) => {
      row.fault = this.kind.fault(this.puzzle, row.answer);
      this.residuals[start].push(row.residual);
      this.confidences[start].push(confidence(row.qHalt));
    });
    this.iterations.push({ milliseconds, rows });
  }

  get length() {
    return this.iterations.length;
  }

  row(start, iteration) {
    return this.iterations[iteration - 1]?.rows[start];
  }

  /** The start that answers after an iteration: of the right ones, or else of all, the best converged. */
  leader(iteration) {
    const right = this.rightIn(iteration);
    const candidates = right.length ? right : [...this.residuals.keys()];
    const scores = candidates.map((start) => convergenceScore(this.residuals[start].slice(0, iteration)));
    return candidates[bestConverged(scores)];
  }

  /** The starts whose answer keeps the rules in an iteration. */
  rightIn(iteration) {
    const rows = this.iterations[iteration - 1]?.rows ?? [];
    return [...rows.keys()].filter((start) => rows[start].fault === null);
  }

  /** For each start the iteration since which its answer keeps the rules, up to an iteration; 0 if it does not. */
  rightSince(iteration) {
    return this.residuals.map((_, start) => {
      let since = iteration + 1;
      while (since > 1 && this.row(start, since - 1).fault === null) since--;
      return since > iteration ? 0 : since;
    });
  }

  /** The first iteration with a right answer, and its start; undefined if there is none. */
  get solved() {
    const iteration = this.iterations.findIndex((_, i) => this.rightIn(i + 1).length) + 1;
    return iteration ? { iteration, start: this.leader(iteration) } : undefined;
  }

  /** The cells that a start changed in an iteration. */
  changed(start, iteration) {
    const before = this.row(start, iteration - 1)?.answer ?? this.puzzle;
    return this.row(start, iteration).answer.filter((token, cell) => token !== before[cell]).length;
  }

  /** The median time of an iteration in seconds; undefined before the first. */
  get seconds() {
    const times = this.iterations.map(({ milliseconds }) => milliseconds).sort((a, b) => a - b);
    return times.length ? times[Math.floor(times.length / 2)] / 1000 : undefined;
  }

  /** The outcome in a sentence. */
  get verdict() {
    const many = this.breadth > 1;
    const { solved } = this;
    if (this.several) {
      const fault = this.row(this.leader(this.length), this.length).fault;
      return { kind: "doubt", text: `Several solutions. Of this answer, ${fault ?? "it keeps the rules"}.` };
    }
    if (solved) {
      const who = many ? ` by start ${solved.start + 1}` : "";
      const right = this.rightIn(this.length).length;
      const also = many ? `; ${right} of ${this.breadth} starts ${right === 1 ? "is" : "are"} right` : "";
      return { kind: "right", text: `Solved in iteration ${solved.iteration} of ${this.depth}${who}, checked by the rules${also}.` };
    }
    const { fault } = this.row(this.leader(this.length), this.length);
    const advice = "More depth or more starts may help.";
    return { kind: "wrong", text: `Not solved after ${this.length} iterations: ${fault}. ${advice}` };
  }
}
