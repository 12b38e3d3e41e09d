// The rules of Sudokus and mazes, and the puzzles that the page makes.

import assert from "node:assert/strict";
import test from "node:test";

import { GOAL, Maze, OPEN, PATH, START, WALL, randomMaze, shortest } from "../src/maze.js";
import { EXAMPLES, KINDS, empty } from "../src/examples.js";
import { random } from "../src/random.js";
import { Sudoku, clashes, randomPuzzle, solutions, units } from "../src/sudoku.js";

const HARD = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4..";
const SOLVED = "812753649943682175675491283154237896369845721287169534521974368438526917796318452";
const digits = (text) => [...text].map((c) => (c === "." ? 0 : +c));

/** Whether a full grid has every digit once in each unit, counted otherwise than `clashes` does. */
const isFull = (grid, size) => units(size).every((unit) => new Set(unit.map((cell) => grid[cell])).size === size);

test("units have each cell three times, and boxes of the right shape", () => {
  for (const size of [4, 6, 9]) {
    const counts = Array(size * size).fill(0);
    units(size).flat().forEach((cell) => counts[cell]++);
    assert.ok(counts.every((count) => count === 3));
  }
  assert.deepEqual(units(6)[13], [3, 4, 5, 9, 10, 11]); // two rows of three
});

test("clashes are found in rows, columns and boxes", () => {
  const grid = Array(81).fill(0);
  for (const [a, b, clash] of [[0, 8, true], [0, 72, true], [0, 20, true], [0, 30, false]]) {
    const two = [...grid];
    two[a] = two[b] = 5;
    assert.deepEqual(clashes(two, 9), clash ? [a, b] : []);
  }
});

test("solutions are counted up to two", () => {
  assert.equal(solutions(digits(HARD), 9).map((grid) => grid.join(""))[0], SOLVED);
  assert.equal(solutions(digits(HARD), 9).length, 1);
  assert.equal(solutions(Array(81).fill(0), 9).length, 2);
  assert.equal(solutions(digits("12.....3...4...."), 4).length, 0);
});

test("a Sudoku that needs much search and has no solution is done in time", { timeout: 20_000 }, () => {
  const norvig = ".....5.8....6.1.43..........1.5........1.6...3.......553.....61........4.........";
  assert.equal(solutions(digits(norvig), 9).length, 0);
});

test("new Sudokus have one solution, and need every clue", () => {
  for (const size of [4, 6, 9]) {
    const puzzle = randomPuzzle(random(size), size);
    const found = solutions(puzzle, size);
    assert.equal(found.length, 1);
    assert.ok(isFull(found[0], size));
    for (const cell of puzzle.keys()) {
      if (!puzzle[cell]) continue;
      assert.equal(solutions(puzzle.with ? puzzle.with(cell, 0) : Object.assign([...puzzle], { [cell]: 0 }), size).length, 2);
    }
  }
});

test("answers to Sudokus are judged by the rules", () => {
  const kind = new Sudoku(9);
  const [puzzle, answer] = [kind.tokens(HARD), kind.tokens(SOLVED)];
  assert.equal(kind.fault(puzzle, answer), null);
  assert.match(kind.fault(puzzle, Object.assign([...answer], { 1: 1 })), /no digit at row 1 column 2$/);
  assert.match(kind.fault(puzzle, Object.assign([...answer], { 0: 2 })), /changes clues at row 1 column 1$/);
  assert.match(kind.fault(puzzle, Object.assign([...answer], { 1: answer[2], 2: answer[1] })), /stand twice/);
});

test("what is wrong with a Sudoku is said before it is solved", () => {
  const kind = new Sudoku(9);
  const put = (...pairs) => Object.assign(Array(81).fill(1), Object.fromEntries(pairs));
  assert.deepEqual([kind.check(put([0, 6], [8, 6])).blocked, kind.check(put()).blocked], [true, false]);
  assert.match(kind.check(put([0, 6], [8, 6])).text, /clash.*row 1 column 1, row 1 column 9/);
  assert.match(kind.check(put()).text, /Several solutions/);
  const none = put(...[2, 3, 4, 5, 6, 7, 8, 9].map((token, i) => [i, token]), [26, 10]); // row 1 has no place for 9
  assert.deepEqual(kind.clashes(none), []);
  assert.equal(kind.check(none).blocked, true);
  assert.match(kind.check(kind.tokens(HARD)).text, /^21 clues, exactly one solution/);
});

const SMALL = ["#####", "#S  #", "# # #", "#  G#", "#####"].join("");

test("mazes: paths, several shortest ones, none", () => {
  const kind = new Maze(5);
  const board = kind.tokens(SMALL);
  assert.equal(shortest(board, 5).path.length, 5);
  assert.equal(kind.solutions(board), 2);
  const one = Object.assign([...board], { 8: WALL });
  assert.equal(kind.solutions(one), 1);
  assert.equal(kind.solutions(Object.assign([...one], { 16: WALL })), 0);
  assert.equal(kind.check(Object.assign([...one], { 16: WALL })).blocked, true);
  assert.match(kind.check(board).text, /Several shortest paths/);
  assert.throws(() => kind.tokens(SMALL.replace("G", " ")), /one S .* 1 and 0/);
});

test("answers to mazes are judged by the rules", () => {
  const kind = new Maze(5);
  const board = kind.tokens(SMALL);
  const mark = (...cells) => Object.assign([...board], Object.fromEntries(cells.map((cell) => [cell, PATH])));
  assert.equal(kind.fault(board, mark(7, 8, 13)), null);
  assert.equal(kind.fault(board, mark(11, 16, 17)), null);
  assert.match(kind.fault(board, mark(7, 8)), /do not lead/);
  assert.match(kind.fault(board, mark(7, 8, 13, 11)), /4 cells are marked, but a shortest path from S to G has 3/);
  assert.match(kind.fault(board, Object.assign(mark(7, 8, 13), { 0: OPEN })), /changes the maze at row 1 column 1/);
});

test("new mazes are of the kind that the models know", () => {
  for (let seed = 0; seed < 5; seed++) {
    const board = randomMaze(random(seed), 30);
    const { path, only } = shortest(board, 30);
    assert.ok(only && path.length - 1 >= 100 && path.length - 1 <= 140);
    assert.equal(KINDS.maze.check(board).doubtful, undefined);
    assert.deepEqual([START, GOAL].map((end) => board.filter((token) => token === end).length), [1, 1]);
    assert.ok(board.every((token, cell) => token === WALL || (cell > 29 && cell % 30 && cell % 30 < 29 && cell < 870)));
  }
});

test("the page's examples can be solved, and boards to fill in are as large", () => {
  for (const [task, examples] of Object.entries(EXAMPLES)) {
    for (const [name, make] of examples) assert.ok(KINDS[task].solutions(make()) > 0, name);
    assert.equal(empty[task]().length, KINDS[task].size ** 2);
  }
  assert.equal(KINDS.maze.check(EXAMPLES.maze[1][1]()).doubtful, true);
});
