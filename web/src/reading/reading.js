// Puzzles from text: one or many Sudokus or mazes, with errors that name the place. As solving/reading.py reads them.
// tests/cases/notations.json tests both.

import { Maze } from "../maze.js";
import { Sudoku } from "../sudoku.js";
import { questions, rows } from "./csv.js";
import { isMaze, mazes } from "./maze-text.js";
import { Unfinished, sudokus } from "./sudoku-text.js";

const SECTION = /^\s*\[(\w+)\]\s*$/;
/** Sections of an .sdk file that are not the puzzle. */
const NOT_ASKED = ["state", "pencilmarks", "candidates", "solution", "solutions"];

/** All puzzles of a text, of one kind and size: {kind, tokens, line}. Throws a sentence if there is none. */
export function read(text) {
  const lines = text.replaceAll("\r\n", "\n").replaceAll("\r", "\n").split("\n");
  const many = text.replace(/^[\r\n]+|[\r\n]+$/g, "").includes("\n");
  const puzzles = [];
  for (const { Kind, line, cells } of boards(lines)) {
    const kind = new Kind(Math.floor(Math.sqrt(cells.length)));
    try {
      puzzles.push({ kind, tokens: kind.tokens(cells), line });
    } catch (error) {
      const hint = kind.name === "4x4 Sudoku" && /[5-9A-Ga-g]/.test(cells) ? "; 16x16 Sudokus are not known" : "";
      throw new Error(`${many ? `the puzzle in line ${line}: ` : ""}${error.message}${hint}`);
    }
    const [first] = puzzles;
    if (kind.name !== first.kind.name) {
      const others = `line ${line} is a ${kind.name}, but line ${first.line} a ${first.kind.name}`;
      throw new Error(`${others}: one run solves puzzles of one kind and size`);
    }
  }
  if (puzzles.length) return puzzles;
  throw new Error("there is no puzzle in it; a Sudoku has 16, 36 or 81 cells, and a maze has an S and a G");
}

function boards(texts) {
  const lines = relevant(texts.map((text, i) => [i + 1, text]));
  const begin = lines.findIndex(([, text]) => text.trim());
  if (begin < 0) return [];
  const table = questions(lines[begin][1]);
  return table ? ofTable(lines.slice(begin + 1), table) : blocks(lines.slice(begin));
}

/** The lines without sections that are not the puzzle. */
function relevant(lines) {
  let asked = true;
  return lines.filter(([, text]) => {
    const section = text.match(SECTION);
    if (section) asked = !NOT_ASKED.includes(section[1].toLowerCase());
    return asked;
  });
}

/** The board in the column of questions of every row. */
function ofTable(lines, { delimiter, columns, index }) {
  return [...rows(lines, delimiter)].map(({ number, fields }) => {
    if (fields.length !== columns) throw new Error(`line ${number} has ${fields.length} columns instead of ${columns}`);
    const found = blocks(fields[index].split("\n").map((text) => [number, text]));
    if (found.length === 1) return { ...found[0], line: number };
    throw new Error(`line ${number} has ${found.length} puzzles in column ${index + 1} instead of one`);
  });
}

/** The boards of lines. An empty line ends a block; the bands of a Sudoku may be blocks of their own. */
function blocks(lines) {
  const found = [];
  let pending = [];
  for (const line of lines) {
    pending.push(line);
    if (line[1]) continue;
    try {
      found.push(...parse(pending, false));
    } catch (error) {
      if (error instanceof Unfinished) continue;
      throw error;
    }
    pending = [];
  }
  return [...found, ...parse(pending, true)];
}

/** The boards of blocks: mazes, or Sudokus whose bands are blocks. */
function parse(lines, ends) {
  const maze = isMaze(lines);
  const found = maze ? mazes(lines.filter(([, text]) => text), true) : sudokus(lines, ends);
  return found.map((board) => ({ Kind: maze ? Maze : Sudoku, ...board }));
}
