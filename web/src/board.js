// The board: a grid of cells that one can type into, paint on and watch.

import { GOAL, OPEN, PATH, START, WALL } from "./maze.js";

const MOVES = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] };
const MAZE_WORDS = { [WALL]: "wall", [OPEN]: "open", [START]: "start", [GOAL]: "goal", [PATH]: "on the way" };
const BELIEVED = 0.02; // a way less likely than this is not drawn

/** A board in `element`. `edit(cell, token)` hears of changes that a person asks for. */
export class Board {
  tool = "look";

  constructor(element, edit) {
    Object.assign(this, { element, edit, current: 0, cells: [] });
    element.addEventListener("keydown", (event) => this.#key(event));
    element.addEventListener("focusin", (event) => this.#choose(this.cells.indexOf(event.target)));
    element.addEventListener("pointerdown", (event) => this.#paint(event));
    element.addEventListener("pointermove", (event) => event.buttons && this.#paint(event));
  }

  /** Makes the cells of a kind of puzzle. */
  use(kind) {
    this.kind = kind;
    this.element.className = `board ${kind.task}`;
    this.element.style.setProperty("--n", kind.size);
    this.element.setAttribute("role", "grid");
    this.element.setAttribute("aria-label", `${kind.name}, ${kind.size} rows and columns`);
    this.cells = Array.from({ length: kind.size ** 2 }, () => {
      const cell = document.createElement("div");
      cell.setAttribute("role", "gridcell");
      cell.tabIndex = -1;
      return cell;
    });
    const rows = Array.from({ length: kind.size }, (_, row) => {
      const element = document.createElement("div");
      element.setAttribute("role", "row");
      element.append(...this.cells.slice(row * kind.size, (row + 1) * kind.size));
      return element;
    });
    this.element.replaceChildren(...rows);
    this.#choose(0);
  }

  /** Shows a puzzle, and an answer to it with probabilities, or null. `before` is the answer shown as unchanged. */
  show(puzzle, row, before) {
    const clashing = new Set(this.kind.clashes(puzzle));
    const draw = this.kind.task === "sudoku" ? this.#digit : this.#way;
    this.cells.forEach((element, cell) => {
      const changed = row && before && before[cell] !== row.answer[cell];
      const { text, kind, certainty, words } = draw.call(this, puzzle[cell], row, cell);
      if (element.textContent !== text) element.textContent = text;
      const classes = [kind, changed ? "changed" : "", clashing.has(cell) ? "clash" : ""].filter(Boolean).join(" ");
      if (element.className !== classes) element.className = classes;
      element.style.setProperty("--p", certainty.toFixed(2));
      const place = `row ${Math.floor(cell / this.kind.size) + 1} column ${(cell % this.kind.size) + 1}`;
      element.setAttribute("aria-label", `${place}, ${words}${clashing.has(cell) ? ", clashes" : ""}`);
    });
  }

  #digit(token, row, cell) {
    if (token > 1) return { text: String(token - 1), kind: "clue", certainty: 1, words: `clue ${token - 1}` };
    if (!row) return { text: "", kind: "blank", certainty: 0, words: "blank" };
    const digit = row.answer[cell] > 1 ? String(row.answer[cell] - 1) : "?";
    const certainty = row.probabilities[cell * (this.kind.size + 2) + row.answer[cell]];
    return { text: digit, kind: "answer", certainty, words: `answer ${digit}, ${Math.round(100 * certainty)} percent` };
  }

  #way(token, row, cell) {
    const kind = { [WALL]: "wall", [OPEN]: "open", [START]: "start", [GOAL]: "goal" }[token];
    const text = { [START]: "S", [GOAL]: "G" }[token] ?? "";
    const believed = row && token === OPEN ? row.probabilities[cell * 6 + PATH] : 0;
    const marked = row?.answer[cell] === PATH && token === OPEN;
    const words = MAZE_WORDS[marked ? PATH : token];
    return { text, kind: marked ? "open way" : kind, certainty: believed > BELIEVED ? believed : 0, words };
  }

  /** Puts a token into the chosen cell. */
  enter(token) {
    this.edit(this.current, token);
  }

  #choose(cell) {
    if (cell < 0) return;
    this.cells[this.current]?.setAttribute("tabindex", "-1");
    this.current = cell;
    this.cells[cell].tabIndex = 0;
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { size, task } = this.kind;
    const [row, column] = [Math.floor(this.current / size), this.current % size];
    if (MOVES[event.key]) {
      const [down, right] = MOVES[event.key];
      const next = [row + down, column + right].map((place) => Math.min(size - 1, Math.max(0, place)));
      this.cells[next[0] * size + next[1]].focus();
    } else if (event.key === "Home" || event.key === "End") {
      this.cells[row * size + (event.key === "Home" ? 0 : size - 1)].focus();
    } else if (task === "sudoku" && /^[0-9]$/.test(event.key) && +event.key <= size) {
      this.enter(+event.key + 1);
    } else if (task === "sudoku" && ["Backspace", "Delete", " ", "."].includes(event.key)) {
      this.enter(1);
    } else if (task === "maze" && [" ", "Enter", "s", "S", "g", "G"].includes(event.key)) {
      this.enter({ s: START, g: GOAL }[event.key.toLowerCase()] ?? "turn");
    } else {
      return;
    }
    event.preventDefault();
  }

  #paint(event) {
    const touched = document.elementFromPoint(event.clientX, event.clientY);
    const cell = this.cells.indexOf(touched);
    if (cell < 0 || this.kind.task !== "maze" || this.tool === "look") return;
    if (event.type === "pointerdown") event.target.releasePointerCapture?.(event.pointerId);
    this.edit(cell, { wall: WALL, open: OPEN, start: START, goal: GOAL }[this.tool]);
  }
}
