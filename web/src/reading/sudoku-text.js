// Sudokus in the notations in which people write them down, as dataset/sudoku_text.py reads them.
// A line is [number, text], and a board {line, cells}: where it starts, and one character per cell.

import { BOXES, Sudoku } from "../sudoku.js";
import { CELLS, DIGITS, GAP, NOTE, ODD, ROW, SIGNS, SIZES, SUDOKU, WHOLE } from "./sudoku-line.js";
import { all, any, isNumber, readLine, tokens } from "./sudoku-line.js";

/** The text may go on: rows are missing at its end. */
export class Unfinished extends Error {}

/** The Sudokus in these lines, the empty ones among them; `ends` says whether the text ends with them. */
export function sudokus(lines, ends) {
  const read = withoutCounts(lines.map(([number, text]) => readLine(number, text)));
  if (ends) requireKnownSize(read);
  const found = [];
  let run = [];
  for (const line of read) {
    if (line.what === SUDOKU || line.what === NOTE) {
      found.push(...grids(run, true));
      run = [];
    }
    if (line.what === SUDOKU) found.push({ line: line.number, cells: line.cells });
    else if (line.what !== NOTE) run.push(line);
  }
  const wrapped = ends && !found.length && wrappedBoard(read);
  if (wrapped) return [wrapped];
  found.push(...grids(run, ends));
  const wholes = read.filter((line) => line.what === SUDOKU).map((line) => line.cells);
  requireSeparate(wholes, found.length, ends);
  return found.map(({ line, cells }) => ({ line, cells: withDots(cells) }));
}

/** Turns numbers on a line of their own, of another length than the rows around them, into notes. */
function withoutCounts(read) {
  const content = read.filter((line) => line.what !== GAP && line.what !== NOTE);
  const counts = new Set();
  content.forEach((line, i) => {
    const around = [content[i - 1], content[i + 1]].filter(Boolean);
    const number = line.what === ROW && isNumber(line.text.trim()) && line.cells[0] !== "0";
    if (number && around.length && around.every((other) => other.cells.length !== line.cells.length)) {
      counts.add(line.number);
    }
  });
  return read.map((line) => (counts.has(line.number) ? { ...line, what: NOTE } : line));
}

/** The boards of lines that hold a row each. */
function grids(run, ends) {
  const content = run.filter((line) => line.what === ROW || line.what === ODD);
  const odd = run.find((line) => line.what === ODD);
  if (!content.length) return [];
  if (!odd) return evenGrids(run, ends);
  const longest = Math.max(...run.map((line) => line.text.length));
  const trimmed = !run.some((line) => line.text.endsWith(" ")); // then spaces are missing at the ends of lines only
  for (const mode of [fields, bars, (line) => spaces(line, longest, trimmed)]) {
    const rows = rowsOf(run, mode);
    const numbers = new Set(rows.map((row) => row.number));
    if (content.every((line) => numbers.has(line.number))) return stacked(rows, ends);
  }
  const size = Math.sqrt(odd.cells.length);
  if (Number.isInteger(size) && size > Math.max(...SIZES)) {
    throw new Error(unknown(`line ${odd.number} has ${odd.cells.length} cells`, size));
  }
  const parts = tokens(odd.text);
  if ([12, 16, 25].includes(parts.length) && parts.every((part) => part.length === 1)) {
    throw new Error(unknown(`line ${odd.number} has ${parts.length} cells`, parts.length));
  }
  throw new Error(
    `line ${odd.number} has ${odd.cells.length} characters, but a Sudoku has 16, 36 or 81 on a line ` +
      "(or 4, 6 or 9 lines of as many), and a maze has an S and a G",
  );
}

/** The rows of lines. An empty line is a gap. */
function rowsOf(run, cellsOf) {
  const rows = [];
  let afterGap = false;
  for (const line of run) {
    const cells = cellsOf(line);
    if (cells) rows.push({ number: line.number, cells, afterGap });
    afterGap = !cells && (afterGap || !line.text.trim());
  }
  return rows;
}

/** The boards of rows. A line of one sign is a row if that sign stands for blanks, and a ruler if not. */
function evenGrids(run, ends) {
  const blanks = [...new Set(run.filter((line) => line.what === ROW).flatMap((line) => [...line.cells]))];
  const signs = blanks.filter((c) => SIGNS.includes(c));
  const certain = rowsOf(run, (line) => (line.what === ROW ? line.cells : ""));
  const possible = rowsOf(run, (line) => (line.what === ROW || signs.includes(line.cells[0]) ? line.cells : ""));
  let found;
  try {
    found = stacked(certain, ends);
  } catch (error) {
    if (error instanceof Unfinished) throw error;
    return stacked(possible, ends);
  }
  if (possible.length > certain.length && possible.length % possible[0].cells.length === 0) {
    const lines = `lines ${run[0].number} to ${run.at(-1).number}`;
    throw new Error(`${lines} have rulers or rows of blanks: write . for a blank`);
  }
  return found;
}

/** The boards of rows that follow each other. Gaps lie between boards, between bands, or after every row. */
function stacked(rows, ends) {
  const boards = [];
  const width = rows[0].cells.length;
  if (rows[0].cells === DIGITS.slice(1, width + 1)) {
    // these may number the columns
    if (rows.length > 1 && rows.length % width === 1) rows = rows.slice(1);
    else if (!ends) throw new Unfinished(`line ${rows[0].number} may number columns`);
  }
  while (rows.length) {
    const size = rows[0].cells.length;
    const part = rows.slice(0, size);
    const unlike = part.findIndex((row) => row.cells.length !== size);
    const gaps = [...part.keys()].filter((i) => i && part[i].afterGap);
    const inBand = gaps.length < part.length - 1 ? gaps.filter((i) => i % BOXES[size][0]) : [];
    const count = Math.min(unlike < 0 ? part.length : unlike, ...inBand);
    if (count < size) {
      const [first, last] = [part[0].number, part[count - 1].number];
      const lines = count > 1 ? `lines ${first} to ${last} are ${count} rows` : `line ${first} is 1 row`;
      const sentence = `${lines} of ${size} cells, but a ${size}x${size} Sudoku has ${size} rows`;
      throw ends || count < part.length ? new Error(sentence) : new Unfinished(sentence);
    }
    boards.push({ line: part[0].number, cells: part.map((row) => row.cells).join("") });
    rows = rows.slice(size);
  }
  return boards;
}

/** A row of fields between commas, semicolons or tabs, the empty ones blank; or nothing. */
function fields({ text }) {
  for (const delimiter of ",;\t") {
    const parts = text.split(delimiter).map((field) => field.replace(/^[ "']+|[ "']+$/g, ""));
    if (SIZES.includes(parts.length) && parts.every((field) => !field || (field.length === 1 && CELLS.test(field)))) {
      return parts.map((field) => field || ".").join("");
    }
  }
  return "";
}

/** A row of cells or boxes between bars, with spaces as blanks; or nothing. */
function bars({ text }) {
  if (!text.includes("|") || !all(text, DIGITS + "| ")) return "";
  const framed = text.match(/\|.*\|.*\|/);
  const parts = (framed ? framed[0].slice(1, -1) : text).split("|");
  if (SIZES.includes(parts.length) && parts.every((part) => part.trim().length <= 1)) {
    return parts.map((part) => part.trim() || ".").join("");
  }
  const every = (part, first, step) => [...part].filter((_, i) => i >= first && (i - first) % step === 0).join("");
  const filled = (cells) => [...cells].filter((c) => c !== " ").length;
  for (const size of SIZES) {
    const wide = BOXES[size][1];
    if (parts.length * wide !== size || new Set(parts.map((part) => part.length)).size > 1) continue;
    for (const [first, step] of [[0, 1], [0, 2], [1, 2]]) {
      // "1 3", "1   3" and " 1   3 "
      const whole = filled(parts.map((part) => every(part, first, step)).join("")) === [...text].filter((c) => DIGITS.includes(c)).length;
      if (parts[0].length !== 2 * first + (wide - 1) * step + 1 || !whole) continue;
      const cells = parts.map((part) => (first ? every(part.slice(1, -1), 0, 2) : every(part, first, step))).join("");
      return cells.replaceAll(" ", ".");
    }
  }
  return "";
}

/** A row of digits and spaces, each space a blank; or nothing. */
function spaces({ text }, size, trimmed) {
  const full = text.length === size || (trimmed && text);
  if (!SIZES.includes(size) || !full || !all(text, DIGITS + " ")) return "";
  return text.padEnd(size).replaceAll(" ", ".");
}

/** A list of numbers that is broken into lines somewhere, if it is a board and no line is a row of one. */
function wrappedBoard(read) {
  if (read.some((line) => line.what === ROW)) return null;
  const content = read.filter((line) => line.what === ODD || isNumber(line.text.trim()));
  const cells = content.flatMap((line) => tokens(line.text));
  if (!WHOLE.includes(cells.length) || !cells.every((token) => token.length === 1 && CELLS.test(token))) return null;
  return { line: content[0].number, cells: withDots(cells.join("")) };
}

/** Refuses N lines of N cells, if a Sudoku of that size is not known. */
function requireKnownSize(read) {
  const content = read.filter((line) => line.what !== NOTE && any(line.text, DIGITS + "."));
  const parts = content.map((line) => tokens(line.text));
  const proper = content.every((line) => line.what === SUDOKU && mayBeBoard(line.cells));
  for (const counts of [parts.map((line) => line.join("").length), parts.map((line) => line.length)]) {
    const size = Math.max(0, ...counts);
    const same = new Set(counts).size === 1;
    if (same && size > 4 && !SIZES.includes(size) && content.length % size === 0 && !proper) {
      throw new Error(unknown(`lines ${content[0].number} to ${content.at(-1).number} have ${size} cells each`, size));
    }
  }
}

const mayBeBoard = (cells) => all(cells, SIGNS + DIGITS.slice(0, Math.floor(Math.sqrt(cells.length)) + 1));

const unknown = (what, size) => `${what}: a ${size}x${size} Sudoku is not known, only 4x4, 6x6 and 9x9`;

/** Refuses N lines of N cells that may be one larger board as well as N small ones.
 * They are small ones if digits stand twice in the larger board, or if each has one solution. */
function requireSeparate(wholes, found, ends) {
  const size = wholes[0]?.length ?? 1;
  if (found !== wholes.length || !wholes.length || wholes.some((cells) => cells.length !== size)) return;
  const full = wholes.length % size === 0;
  if ((!full && (ends || wholes.length > size)) || repeats(wholes) || wholes.every(isProper)) return;
  const sentence = `${wholes.length} lines of ${size} cells may be ${wholes.length} Sudokus or the rows of another`;
  throw ends ? new Error(unknown(sentence, size)) : new Unfinished(sentence);
}

/** Whether a digit stands twice in a row or a column of boards with these rows. */
function repeats(rows) {
  const size = rows[0].length;
  const units = [...rows];
  for (let first = 0; first < rows.length; first += size) {
    const board = rows.slice(first, first + size);
    for (let column = 0; column < size; column++) units.push(board.map((row) => row[column]).join(""));
  }
  const digits = units.map((unit) => [...unit].filter((c) => "123456789".includes(c)));
  return digits.some((unit) => new Set(unit).size < unit.length);
}

function isProper(cells) {
  const kind = new Sudoku(Math.sqrt(cells.length));
  try {
    return kind.solutions(kind.tokens(withDots(cells))) === 1;
  } catch {
    return false;
  }
}

/** The cells with a dot for the blank sign, if they have one sign only. */
function withDots(cells) {
  const signs = [...new Set(cells)].filter((c) => (SIGNS + "0").includes(c));
  return signs.length === 1 ? cells.replaceAll(signs[0], ".") : cells;
}

