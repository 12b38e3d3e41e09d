// Mazes: a square board of walls with a start and a goal. The answer marks a shortest path. No model takes part.
// A board is n * n tokens in reading order.

import { cellNames } from "./cells.js";
import { below } from "./random.js";

export const [WALL, OPEN, START, GOAL, PATH] = [1, 2, 3, 4, 5];
const CHARACTERS = "?# SGo";

/** What the shipped models have learned: the steps from S to G in their training mazes. */
export const KNOWN_STEPS = [100, 140];

/** The cells beside a cell, on the board. */
function neighbours(cell, size) {
  const near = [];
  if (cell + size < size * size) near.push(cell + size);
  if (cell >= size) near.push(cell - size);
  if (cell % size < size - 1) near.push(cell + 1);
  if (cell % size > 0) near.push(cell - 1);
  return near;
}

/** Steps from a cell to every cell, breadth first; -1 for walls and what cannot be reached. */
export function distances(board, from, size) {
  const steps = Array(board.length).fill(-1);
  steps[from] = 0;
  let level = [from];
  while (level.length) {
    const next = [];
    for (const cell of level) {
      for (const near of neighbours(cell, size)) {
        if (steps[near] < 0 && board[near] !== WALL) {
          steps[near] = steps[cell] + 1;
          next.push(near);
        }
      }
    }
    level = next;
  }
  return steps;
}

/** A shortest path from S to G with both ends, or null; and whether it is the only one. */
export function shortest(board, size) {
  const steps = distances(board, board.indexOf(START), size);
  let cell = board.indexOf(GOAL);
  if (steps[cell] < 0) return null;
  const path = [cell];
  let only = true;
  while (steps[cell]) {
    const before = neighbours(cell, size).filter((near) => steps[near] === steps[cell] - 1);
    only &&= before.length === 1;
    [cell] = before;
    path.push(cell);
  }
  return { path: path.reverse(), only };
}

/** The cells that are open and reached from S, less the walls between them that a maze without loops has. */
function hasLoops(board, size) {
  const steps = distances(board, board.indexOf(START), size);
  let [cells, links] = [0, 0];
  steps.forEach((step, cell) => {
    if (step < 0) return;
    cells++;
    links += neighbours(cell, size).filter((near) => steps[near] >= 0).length;
  });
  return links / 2 > cells - 1;
}

/** A perfect maze: one path between any two cells, carved depth first out of the largest odd square. */
export function carve(next, size) {
  const board = Array(size * size).fill(WALL);
  const rooms = Math.floor((size - 1) / 2);
  const cellOf = (row, column) => (2 * row + 1) * size + 2 * column + 1;
  const trail = [[below(next, rooms), below(next, rooms)]];
  board[cellOf(...trail[0])] = OPEN;
  while (trail.length) {
    const [row, column] = trail.at(-1);
    const ways = [[1, 0], [-1, 0], [0, 1], [0, -1]]
      .map(([down, right]) => [row + down, column + right])
      .filter(([r, c]) => r >= 0 && c >= 0 && r < rooms && c < rooms && board[cellOf(r, c)] === WALL);
    if (!ways.length) {
      trail.pop();
      continue;
    }
    const way = ways[below(next, ways.length)];
    board[(cellOf(row, column) + cellOf(...way)) / 2] = OPEN;
    board[cellOf(...way)] = OPEN;
    trail.push(way);
  }
  return board;
}

/** A maze of the kind that the shipped models know. */
export function randomMaze(next, size) {
  const [shortestPath, longestPath] = KNOWN_STEPS;
  const length = shortestPath + below(next, longestPath - shortestPath + 1);
  for (;;) {
    const board = carve(next, size);
    const open = [...board.keys()].filter((cell) => board[cell] === OPEN);
    for (let attempt = 0; attempt < 50; attempt++) {
      const start = open[below(next, open.length)];
      const steps = distances(board, start, size);
      const goals = open.filter((cell) => steps[cell] === length);
      if (!goals.length) continue;
      board[start] = START;
      board[goals[below(next, goals.length)]] = GOAL;
      return board;
    }
  }
}

/** The rules of a maze of one size. */
export class Maze {
  task = "maze";
  needsOneSolution = false;

  constructor(size) {
    this.size = size;
    this.name = `${size}x${size} maze`;
  }

  /** The tokens of a puzzle from one character per cell. Throws if a character has no meaning, or S or G are wrong. */
  tokens(characters) {
    const meaning = { "#": WALL, " ": OPEN, ".": OPEN, S: START, G: GOAL };
    const tokens = [...characters].map((character, cell) => {
      if (!meaning[character]) {
        const place = cellNames([cell], this.size);
        throw new Error(`${place} is '${character}', but should be # for a wall, a space or . for an open cell, S or G`);
      }
      return meaning[character];
    });
    const fault = this.#ends(tokens);
    if (fault) throw new Error(fault);
    return tokens;
  }

  #ends(tokens) {
    const [starts, goals] = [START, GOAL].map((end) => tokens.filter((token) => token === end).length);
    if (starts === 1 && goals === 1) return null;
    return `a maze needs one S (start) and one G (goal), but this has ${starts} and ${goals}`;
  }

  characters(tokens) {
    return tokens.map((token) => CHARACTERS[token] ?? "?").join("");
  }

  clashes() {
    return [];
  }

  /** The number of shortest paths, counted up to 2. */
  solutions(tokens) {
    const found = shortest(tokens, this.size);
    return found ? (found.only ? 1 : 2) : 0;
  }

  /** How an answer breaks the rules, in a few words; null if it is right. */
  fault(puzzle, answer) {
    const cells = [...puzzle.keys()];
    const marked = cells.map((cell) => answer[cell] === PATH && puzzle[cell] === OPEN);
    const changed = cells.filter((cell) => answer[cell] !== puzzle[cell] && !marked[cell]);
    if (changed.length) return `it changes the maze at ${cellNames(changed, this.size)}`;
    const isEnd = (token) => token === START || token === GOAL;
    const corridor = puzzle.map((token, cell) => (marked[cell] ? OPEN : isEnd(token) ? token : WALL));
    if (!shortest(corridor, this.size)) return "the marked cells do not lead from S to G";
    const fewest = shortest(puzzle, this.size).path.length - 2;
    const count = marked.filter(Boolean).length;
    if (count === fewest) return null;
    return `${count} cells are marked, but a shortest path from S to G has ${fewest}`;
  }

  /** What to know of a puzzle before solving it: {text, blocked}. */
  check(puzzle) {
    const ends = this.#ends(puzzle);
    if (ends) return { text: ends[0].toUpperCase() + ends.slice(1) + ".", blocked: true };
    const found = shortest(puzzle, this.size);
    if (!found) return { text: "No solution: no open way leads from S to G.", blocked: true };
    const steps = found.path.length - 1;
    if (!found.only) {
      const several = "Several shortest paths, of which any counts.";
      return { text: `${several} The model has only seen mazes without loops, so it may fail.`, doubtful: true };
    }
    if (hasLoops(puzzle, this.size)) {
      const loops = `One shortest path of ${steps} steps, but there are loops.`;
      return { text: `${loops} The model has only seen mazes without, so it may fail.`, doubtful: true };
    }
    if (steps < KNOWN_STEPS[0] || steps > KNOWN_STEPS[1]) {
      const known = `The model has only seen ${KNOWN_STEPS.join(" to ")}, so it may fail.`;
      return { text: `One way from S to G, of ${steps} steps. ${known}`, doubtful: true };
    }
    return { text: `Exactly one way from S to G, of ${steps} steps.` };
  }
}
