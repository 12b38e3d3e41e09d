// Puzzles to begin with.

import { OPEN, Maze, WALL, randomMaze } from "./maze.js";
import { below, random } from "./random.js";
import { Sudoku, randomPuzzle } from "./sudoku.js";

/** The boards that the shipped models know. */
export const KINDS = { sudoku: new Sudoku(9), maze: new Maze(30) };

const sudoku = (text) => () => KINDS.sudoku.tokens(text);

/** A maze with some of its inner walls taken away. */
function withLoops(board, size, count) {
  const next = random(7);
  const open = [...board];
  while (count > 0) {
    const [row, column] = [1 + below(next, size - 3), 1 + below(next, size - 3)];
    const cell = row * size + column;
    const between = (step) => board[cell - step] !== WALL && board[cell + step] !== WALL;
    if (open[cell] !== WALL || !(between(1) || between(size))) continue;
    open[cell] = OPEN;
    count--;
  }
  return open;
}

/** Name and puzzle, for each task. The first is there when the page opens. */
export const EXAMPLES = {
  sudoku: [
    ["A hard one", sudoku("8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4..")],
    ["A gentle one", sudoku("53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79")],
    ["Seventeen clues", sudoku(".......1.4.........2...........5.4.7..8...3....1.9....3..4..2...5.1........8.6...")],
    ["One that wanders", sudoku("1....7.9..3..2...8..96..5....53..9...1..8...26....4...3......1..4......7..7...3..")],
  ],
  maze: [
    ["A maze", () => randomMaze(random(3), 30)],
    ["With short cuts", () => withLoops(randomMaze(random(3), 30), 30, 8)],
  ],
};

/** A new random puzzle of a task. */
export const fresh = {
  sudoku: (next) => randomPuzzle(next, 9).map((digit) => digit + 1),
  maze: (next) => randomMaze(next, 30),
};

/** A board to fill in. */
export const empty = {
  sudoku: () => Array(81).fill(1),
  maze: () => Array.from({ length: 900 }, (_, cell) => {
    const [row, column] = [Math.floor(cell / 30), cell % 30];
    return row === 0 || column === 0 || row > 27 || column > 27 || (row % 2 === 0 && column % 2 === 0) ? WALL : OPEN;
  }),
};
