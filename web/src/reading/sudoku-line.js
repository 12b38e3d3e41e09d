// What a line of a Sudoku's text is: a whole Sudoku, a row of one, or none of it. As dataset/sudoku_line.py has it.

import { BOXES } from "../sudoku.js";

export const SIZES = Object.keys(BOXES).map(Number);
/** Numbers of cells that make a Sudoku. */
export const WHOLE = SIZES.map((size) => size * size);
/** What a cell may be. A sign, or 0, stands for a blank. */
export const [DIGITS, SIGNS] = ["0123456789", "._*xX-?"];
export const CELLS = /^[0-9._*xX?-]+$/;

const SEPARATORS = /(?:\\[nrt]|[\s,;|/\\[\](){}<>"'`=:!&])+/;
const FLOAT = /^[0-9]\.0*$/;
const AROUND = /\u001b\[[0-9;]*m|^\s*-\s+(?=[["'])/g; // colours of a terminal, and the dash before an item of a list
const NOTHING = /\b(?:null|None|nil|NaN|nan)\b/g;
const [COMMENT, REMARK, RULER] = [/^\s*(?:[#;%!]|\/\/)/, /(?:\s#|(?<!:)\/\/).*/g, /--|==|__/];
const LONG = 12; // a token with so many digits and blanks was meant as a Sudoku, not as a number or a date

/** What a line is: BLANKS is a row of blanks or a ruler; ODD has cells, but is neither a row nor a Sudoku. */
export const [SUDOKU, ROW, BLANKS, GAP, NOTE, ODD] = ["sudoku", "row", "blanks", "gap", "note", "odd"];

export const all = (text, allowed) => [...text].every((c) => allowed.includes(c));
export const any = (text, wanted) => [...text].some((c) => wanted.includes(c));
export const isNumber = (text) => /^[0-9]+$/.test(text);
const isWord = (text) => /^\p{L}+$/u.test(text);

const PICTURES = [
  [/[│┃┆┇┊┋╎╏║]/g, "|"], // box drawings
  [/[─━┄┅┈┉┬┳┴┻┼╋╌╍═╦╩╬]/g, "="],
  [/[\u2500-\u257f]/g, "+"],
  [/[·•∙⋅□▢◻␣]/g, "."],
  [/[–—]/g, "-"],
  [/[¦‖]/g, "|"],
  [/[\u00a0\u3000]/g, " "],
];

/** The parts of a line between spaces and punctuation, numbers as 5. or 5.0 without their points.
 * A + before a digit marks a placed one, and is dropped. */
export function tokens(text) {
  const parts = text.replaceAll("+", "").split(SEPARATORS).filter(Boolean);
  const floats = [...WHOLE, ...SIZES].includes(parts.length) && parts.every((part) => FLOAT.test(part));
  return floats ? parts.map((part) => part[0]) : parts;
}

/** Whether a line was meant as a whole Sudoku. */
export const isLong = (text) => tokens(text).some((token) => cellsIn(token) >= LONG);

/** A line, and what it is as far as it alone can tell: {number, text, what, cells}. */
export function readLine(number, raw) {
  const pictured = PICTURES.reduce((text, [pattern, plain]) => text.replace(pattern, plain), raw);
  const text = pictured.replace(AROUND, "").replace(NOTHING, ".");
  if (!text.trim()) return { number, text, what: GAP, cells: "" };
  if (COMMENT.test(text)) return { number, text, what: NOTE, cells: "" };
  const remarkless = text.replace(REMARK, "");
  const hasCells = any(remarkless, DIGITS) || (remarkless.includes(".") && !RULER.test(remarkless));
  const [what, cells] = hasCells ? withCells(remarkless) : withoutDigits(remarkless);
  return { number, text, what, cells };
}

function withoutDigits(text) {
  const cells = even(tokens(text));
  if (cells && new Set(cells).size === 1 && all(cells, SIGNS) && !text.includes("+")) {
    return [SIZES.includes(cells.length) ? BLANKS : GAP, cells];
  }
  return [/\p{L}/u.test(text) ? NOTE : GAP, ""];
}

function withCells(text) {
  const parts = tokens(text);
  const cells = parts.filter((part) => CELLS.test(part));
  const words = parts.filter((part) => !CELLS.test(part));
  if (cells.some((part) => WHOLE.includes(part.length) && cellsIn(part))) return boards(parts);
  const evenly = even(cells);
  const labelled = words.length <= 1 || any(text, "[{");
  if (evenly && labelled && WHOLE.includes(evenly.length)) return [SUDOKU, evenly];
  if (evenly && labelled && (!words.length || cells.length === evenly.length || evenly.length === 9)) return [ROW, evenly];
  const nines = cells.filter((part) => part.length === 9);
  if (nines.length === 1 && cells.every((part) => part === nines[0] || (isNumber(part) && part.length < 4))) {
    return [ROW, nines[0]];
  }
  const onlySpaces = all(text, DIGITS + " ");
  if (onlySpaces && WHOLE.includes(text.length) && [...text].some((c, i) => i % 2 && c !== " ")) {
    return [SUDOKU, text.replaceAll(" ", ".")];
  }
  for (const word of words) {
    // a Sudoku or a row with a wrong character in it
    const whole = WHOLE.includes(word.length);
    if (2 * cellsIn(word) > word.length && (whole || (SIZES.includes(word.length) && parts.length === 1))) {
      return [whole ? SUDOKU : ROW, word];
    }
  }
  if (isLong(text)) return [ODD, parts.reduce((most, part) => (cellsIn(part) > cellsIn(most) ? part : most))];
  if (words.some((word) => word.length > 1 && isWord(word)) || isCount(text, parts)) return [NOTE, ""];
  return [ODD, onlySpaces ? text : cells.join("")];
}

/** Whether a line is a number, or a few small ones as "9 9". */
function isCount(text, parts) {
  const few = parts.length === 1 || parts.join("").length < 4;
  return few && parts.every(isNumber) && text === parts.join(" ");
}

function cellsIn(token) {
  if (!any(token, DIGITS + ".")) return 0;
  return [...token].filter((c) => (DIGITS + SIGNS).includes(c)).length;
}

/** The cells that stand one by one, box by box or all together; else nothing. */
function even(parts) {
  const cells = parts.join("");
  const widths = new Set(parts.map((part) => part.length));
  const size = WHOLE.includes(cells.length) ? Math.sqrt(cells.length) : cells.length;
  if (!SIZES.includes(size) || widths.size !== 1) return "";
  return [1, BOXES[size][1], size].includes(parts[0].length) ? cells : "";
}

/** The question among the boards of a line, which may have its answer as well. */
function boards(parts) {
  const length = Math.max(...parts.filter((p) => WHOLE.includes(p.length) && cellsIn(p)).map((p) => p.length));
  const found = parts.filter((part) => part.length === length || 2 * cellsIn(part) > length);
  const unlike = [...new Set(found)];
  const blank = "0" + SIGNS;
  const open = unlike.filter((board) => any(board, blank));
  const questions = open.length ? open : unlike;
  const agrees = (board) => [...questions[0]].every((c, i) => blank.includes(c) || c === board[i]);
  const fits = questions.length === 1 && unlike.every((board) => board.length === length && agrees(board));
  return fits ? [SUDOKU, questions[0]] : [ODD, found.join("")];
}
