// Mazes in the notations in which people write them down, as dataset/maze_text.py reads them.
// A line is [number, text], and a board {line, cells}: where it starts, and one character per cell.

import { any } from "./sudoku-line.js";
import { Unfinished } from "./sudoku-text.js";

const [WALLS, MARKS, ENDS] = ["#@█■", "oxX*", "SGEAB"];
const ROW = /^[#@█■oxX*SGEAB .]+$/;
const BINARY = /^[01SGEAB ]+$/;
const SHORT = 100; // a line of fewer cells with both ends may be a maze or the first row of one

/** Whether a block of lines is a maze, or several, rather than Sudokus. */
export function isMaze(lines) {
  const texts = lines.map(([, text]) => text).filter(Boolean);
  if (texts.every((text) => BINARY.test(text)) && texts.some((text) => any(text, ENDS))) return true;
  const rows = texts.filter((text) => ROW.test(text) && any(text, WALLS + ENDS));
  const ends = rows.some((text) => any(text, ENDS));
  return rows.length > texts.filter((text) => /\p{Nd}/u.test(text)).length && (ends || rows.length > 2);
}

/** The mazes of a block of lines that are not empty. `ends` says whether the block ends with them. */
export function mazes(lines, ends) {
  const found = [];
  let block = [];
  for (const [number, text] of [...lines, [0, ""]]) {
    if (text && !isHeading(text)) {
      block.push([number, text]);
    } else if (block.length) {
      found.push(...ofBlock(block, ends));
      block = [];
    }
  }
  return found;
}

const isHeading = (text) => !any(text, WALLS) && [...text].some((c) => /\p{L}/u.test(c) && !(MARKS + ENDS).includes(c));

function ofBlock(block, ends) {
  const oneALine = block.map(([line, text]) => ({ line, cells: plain(text) }));
  const isWhole = ({ cells }) => cells.includes("S") && cells.includes("G") && Number.isInteger(Math.sqrt(cells.length));
  const [number, text] = block[0];
  if (oneALine.every(isWhole)) {
    if (ends || block.length > 1 || text.length >= SHORT) return oneALine;
    throw new Unfinished(`line ${number} may be a maze or the first row of one`);
  }
  if (!ends) throw new Unfinished(`line ${number} may be the first row of a maze`);
  if (block.length === 1) {
    throw new Error(
      `line ${number} has ${text.length} characters, but a maze on one line is square, with an S and a G ` +
        "(are spaces lost at an end of it?)",
    );
  }
  for (const [line, row] of block) {
    if (row.length === block.length) continue;
    const alike = new Set(block.map(([, other]) => other.length)).size === 1;
    const hint = alike ? "" : " (if spaces at the end of a line get lost, write . for open cells)";
    const fault = `but a maze is square, and this one has ${block.length} lines${hint}`;
    throw new Error(`line ${line} has ${row.length} characters, ${fault}`);
  }
  return [{ line: number, cells: plain(block.map(([, row]) => row).join("")) }];
}

/** The cells of a maze with our own characters. */
function plain(cells) {
  if (BINARY.test(cells)) cells = cells.replaceAll("1", "#").replaceAll("0", ".");
  cells = [...cells].map((c) => (WALLS.includes(c) ? "#" : MARKS.includes(c) ? "." : c)).join("");
  if (!cells.includes("G")) cells = cells.replaceAll("E", "G");
  return any(cells, "SG") ? cells : cells.replaceAll("A", "S").replaceAll("B", "G");
}
