// Sudokus of size 4, 6 and 9: rules, solutions, new puzzles. No model takes part.
// A grid holds the digits 0 (blank) to n in reading order. A model's token is digit + 1.

import { cellNames } from "./cells.js";
import { shuffled } from "./random.js";

/** Size n: rows and columns of a box. */
export const BOXES = { 4: [2, 2], 6: [2, 3], 9: [3, 3] };

const ALL_UNITS = Object.fromEntries(Object.keys(BOXES).map((size) => [size, makeUnits(+size)]));

function makeUnits(size) {
  const [rows, columns] = BOXES[size];
  const range = [...Array(size).keys()];
  const box = (b) => Math.floor(b / (size / columns)) * rows * size + (b % (size / columns)) * columns;
  return [
    ...range.map((r) => range.map((c) => r * size + c)),
    ...range.map((c) => range.map((r) => r * size + c)),
    ...range.map((b) => range.map((i) => box(b) + Math.floor(i / columns) * size + (i % columns))),
  ];
}

/** The cells of every row, then column, then box. */
export const units = (size) => ALL_UNITS[size];

/** The cells whose digit stands twice in a row, column or box, in reading order. */
export function clashes(digits, size) {
  const found = new Set();
  for (const unit of units(size)) {
    for (const cell of unit) {
      if (digits[cell] && unit.some((other) => other !== cell && digits[other] === digits[cell])) found.add(cell);
    }
  }
  return [...found].sort((a, b) => a - b);
}

/** Up to `limit` solutions of a grid without clashes. The search branches where the fewest choices are left: at a
 * cell, or at a digit within a unit. `order` permutes the digits that it tries. */
export function solutions(digits, size, limit = 2, order = [...Array(size).keys()].map((d) => d + 1)) {
  const cellUnits = [...digits].map(() => []);
  units(size).forEach((unit, u) => unit.forEach((cell) => cellUnits[cell].push(u)));
  const grid = [...digits];
  const used = units(size).map((unit) => unit.reduce((bits, cell) => bits | (1 << grid[cell]), 0) & ~1);
  const found = [];
  const free = (cell, digit) => !grid[cell] && cellUnits[cell].every((u) => !(used[u] & (1 << digit)));

  /** The [cell, digit] pairs to try next; empty where nothing fits, null where the grid is full. */
  function choices() {
    let best = null;
    for (let cell = 0; cell < grid.length; cell++) {
      if (grid[cell]) continue;
      const fitting = order.filter((digit) => free(cell, digit)).map((digit) => [cell, digit]);
      if (!best || fitting.length < best.length) best = fitting;
      if (best.length < 2) return best;
    }
    if (!best || best.length === 2) return best;
    for (let u = 0; u < used.length; u++) {
      for (const digit of order) {
        if (used[u] & (1 << digit)) continue;
        const fitting = units(size)[u].filter((cell) => free(cell, digit)).map((cell) => [cell, digit]);
        if (fitting.length < best.length) best = fitting;
        if (best.length < 2) return best;
      }
    }
    return best;
  }

  function search() {
    const pairs = choices();
    if (!pairs) found.push([...grid]);
    for (const [cell, digit] of pairs ?? []) {
      grid[cell] = digit;
      for (const u of cellUnits[cell]) used[u] |= 1 << digit;
      search();
      for (const u of cellUnits[cell]) used[u] &= ~(1 << digit);
      grid[cell] = 0;
      if (found.length >= limit) return;
    }
  }
  search();
  return found;
}

/** A random puzzle with one solution, which needs every one of its clues. */
export function randomPuzzle(next, size) {
  const order = shuffled(next, [...Array(size).keys()].map((d) => d + 1));
  const first = Array(size * size).fill(0);
  shuffled(next, [...order]).forEach((digit, column) => (first[column] = digit));
  const puzzle = solutions(first, size, 1, order)[0];
  for (const cell of shuffled(next, [...puzzle.keys()])) {
    const digit = puzzle[cell];
    puzzle[cell] = 0;
    if (solutions(puzzle, size).length > 1) puzzle[cell] = digit;
  }
  return puzzle;
}

/** The rules of a Sudoku of one size, in tokens, as the models have them. */
export class Sudoku {
  task = "sudoku";
  needsOneSolution = true;

  constructor(size) {
    this.size = size;
    this.name = `${size}x${size} Sudoku`;
    this.digits = "123456789".slice(0, size);
  }

  /** The tokens of a puzzle from one character per cell. Throws if a character has no meaning, or clues clash. */
  tokens(characters) {
    const tokens = [...characters].map((character, cell) => {
      const digit = ".0".includes(character) ? 0 : this.digits.indexOf(character) + 1;
      if (!digit && !".0".includes(character)) {
        const place = cellNames([cell], this.size);
        throw new Error(`${place} is '${character}', but should be one of ${this.digits}, or . for a blank`);
      }
      return digit + 1;
    });
    const clashing = this.clashes(tokens);
    if (clashing.length) throw new Error(this.#clash(clashing));
    return tokens;
  }

  #clash(cells) {
    return `the clues clash: digits stand twice in a row, column or box at ${cellNames(cells, this.size)}`;
  }

  /** One character per cell; ? for a token that no board has. */
  characters(tokens) {
    return tokens.map((token) => ("?." + this.digits)[token] ?? "?").join("");
  }

  clashes(tokens) {
    return clashes(tokens.map((token) => token - 1), this.size);
  }

  /** The number of solutions, counted up to 2. */
  solutions(tokens) {
    return solutions(tokens.map((token) => token - 1), this.size).length;
  }

  /** How an answer breaks the rules, in a few words; null if it is right. */
  fault(puzzle, answer) {
    const cells = [...puzzle.keys()];
    const empty = cells.filter((cell) => answer[cell] < 2 || answer[cell] > this.size + 1);
    if (empty.length) return `there is no digit at ${cellNames(empty, this.size)}`;
    const changed = cells.filter((cell) => puzzle[cell] > 1 && answer[cell] !== puzzle[cell]);
    if (changed.length) return `it changes clues at ${cellNames(changed, this.size)}`;
    const clashing = this.clashes(answer);
    return clashing.length ? `digits stand twice at ${cellNames(clashing, this.size)}` : null;
  }

  /** What to know of a puzzle before solving it: {text, blocked}. */
  check(puzzle) {
    const clashing = this.clashes(puzzle);
    if (clashing.length) return { text: capital(this.#clash(clashing)) + ".", blocked: true };
    const count = this.solutions(puzzle);
    const clues = puzzle.filter((token) => token > 1).length;
    if (!count) return { text: "No solution: no filling keeps all these clues.", blocked: true };
    if (count > 1) {
      const several = "Several solutions, so none is the right one. More clues would decide.";
      return { text: several, blocked: false, doubtful: true };
    }
    return { text: `${clues} clues, exactly one solution.`, blocked: false };
  }
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
