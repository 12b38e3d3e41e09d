// Random numbers, residuals and runs: what the page computes besides the model.

import assert from "node:assert/strict";
import test from "node:test";

import { metadata } from "../src/onnx.js";
import { below, fillNormal, random, shuffled } from "../src/random.js";
import { Run } from "../src/run.js";
import { Sudoku } from "../src/sudoku.js";
import { answer, bestConverged, confidence, convergenceScore, probabilities, residual } from "../src/trajectory.js";

const near = (value, expected, tolerance) => assert.ok(Math.abs(value - expected) <= tolerance, `${value} is not ${expected}`);

test("the same seed gives the same numbers, another seed others", () => {
  const draw = (seed) => Array.from({ length: 4 }, ((next) => () => next())(random(seed)));
  assert.deepEqual(draw(1), draw(1));
  assert.notDeepEqual(draw(1), draw(2));
  const counts = Array(6).fill(0);
  const next = random(3);
  for (let i = 0; i < 60_000; i++) counts[below(next, 6)]++;
  counts.forEach((count) => near(count, 10_000, 500));
  assert.deepEqual(shuffled(next, [1, 2, 3, 4]).sort(), [1, 2, 3, 4]);
});

test("normal numbers have the moments of their distribution", () => {
  const count = 200_001; // odd: every number counts
  for (const [use, std, largest, fourth] of [["noise", 1, 5.01, 3], ["starts", 2, 4.55, 2.366]]) {
    const x = fillNormal(random(5), new Float32Array(count), use, std);
    const moment = (power) => x.reduce((sum, value) => sum + (value / std) ** power, 0) / count;
    near(moment(1), 0, 0.01);
    near(moment(2), 1, 0.01);
    near(moment(4), fourth, 0.1);
    assert.ok(x.every((value) => Math.abs(value) < largest));
  }
});

test("the residual is the mean over cells of the L2 norm of the logits' change", () => {
  near(residual([0, 0, 3, 4], [0, 0, 0, 0], 2), 2.5, 1e-12);
  near(residual([1, 1, 1, 1], [1, 1, 1, 1], 2), 0, 0);
});

test("the convergence score is the mean of the last three residuals, without those that are not there", () => {
  assert.equal(convergenceScore([9, 1, 2, 6]), 3);
  assert.equal(convergenceScore([NaN, 4]), 4);
  assert.ok(Number.isNaN(convergenceScore([NaN])));
  assert.equal(bestConverged([NaN, 2, 1, 1]), 2);
  assert.equal(bestConverged([NaN, NaN]), 0);
});

test("answers and probabilities of logits", () => {
  assert.deepEqual(answer([1, 3, 3, 0, -1, -2], 3), [1, 0]);
  const p = probabilities([1, 0, -1], 3); // stablemax: 2, 1, 1/2
  [4 / 7, 2 / 7, 1 / 7].forEach((expected, i) => near(p[i], expected, 1e-6));
  assert.equal(confidence(0), 0.5);
});

test("the facts of an ONNX file are read past fields of every type", () => {
  const text = (string) => [...new TextEncoder().encode(string)];
  const bytes = (number, content) => [number * 8 + 2, ...(content.length < 128 ? [content.length] : [(content.length % 128) + 128, content.length >> 7]), ...content];
  const entry = (key, value) => bytes(14, [...bytes(1, text(key)), ...bytes(2, text(JSON.stringify(value)))]);
  const file = [8, 150, 1, ...bytes(7, Array(300).fill(14)), ...entry("task", "maze"), ...entry("latents", [{ std: 1 }])];
  assert.deepEqual(metadata(Uint8Array.from(file)), { task: "maze", latents: [{ std: 1 }] });
});

const KIND = new Sudoku(4);
const PUZZLE = KIND.tokens("1..2.....13.....");
const RIGHT = KIND.tokens("1342421321343421");
const WRONG = RIGHT.map((token, cell) => (cell === 1 ? 5 : token));

/** A run whose starts have these answers and residuals, by iteration. */
function runOf(...iterations) {
  const run = new Run(KIND, PUZZLE, iterations.length, iterations[0].length);
  iterations.forEach((rows, i) => {
    run.add({ milliseconds: 100 * (i + 1), rows: rows.map(([tokens, moved]) => ({ answer: tokens, residual: moved, qHalt: 0 })) });
  });
  return run;
}

test("a run knows who is right, and since when", () => {
  const run = runOf([[WRONG, NaN], [RIGHT, NaN]], [[WRONG, 1], [WRONG, 2]], [[RIGHT, 1], [WRONG, 0.5]], [[RIGHT, 1], [WRONG, 0.5]]);
  assert.deepEqual(run.rightSince(1), [0, 1]);
  assert.deepEqual(run.rightSince(4), [3, 0]);
  assert.deepEqual(run.solved, { iteration: 1, start: 1 });
  assert.equal(run.leader(4), 0); // the right one, though the other has settled better
  assert.equal(run.leader(2), 0);
  assert.equal(run.changed(0, 3), 1);
  assert.equal(run.seconds, 0.3);
  assert.match(run.verdict.text, /^Solved in iteration 1 of 4 by start 2, checked by the rules; 1 of 2 starts is right/);
});

test("a run without a right answer names the fault of the best converged", () => {
  const run = runOf([[WRONG, NaN], [WRONG, NaN]], [[WRONG, 2], [PUZZLE, 1]]);
  assert.equal(run.solved, undefined);
  assert.match(run.verdict.text, /^Not solved after 2 iterations: there is no digit at row 1 column 2/);
});

test("of a puzzle with several solutions no answer is the right one", () => {
  const run = new Run(KIND, KIND.tokens("................"), 1, 1);
  run.add({ milliseconds: 1, rows: [{ answer: RIGHT, residual: NaN, qHalt: 9 }] });
  assert.match(run.verdict.text, /^Several solutions\. Of this answer, it keeps the rules/);
});
