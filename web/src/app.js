// The page: what a person does, and what is shown.

import { Board } from "./board.js";
import { Chart } from "./curves.js";
import { EXAMPLES, KINDS, empty, fresh } from "./examples.js";
import { Lanes } from "./lanes.js";
import { AnswerMap } from "./map.js";
import { GOAL, OPEN, START, WALL } from "./maze.js";
import { random } from "./random.js";
import { read } from "./reading/reading.js";
import { Run } from "./run.js";
import { Runner } from "./runner.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

const state = {
  task: "sudoku",
  puzzles: { sudoku: EXAMPLES.sudoku[0][1](), maze: EXAMPLES.maze[0][1]() },
  chosen: { sudoku: "0", maze: "0" }, // the example, or "own"
  check: {},
  ready: false, // the model of this task is loaded
  run: null,
  moment: 0, // the iteration shown; 0 is the puzzle
  start: null, // the start shown; null for the one that answers
  seed: 0,
};

const next = random(Date.now());
const runner = new Runner((part) => ($("loading").value = part));
const board = new Board($("board"), edit);
const show = (moment) => {
  state.moment = Math.min(state.run?.length ?? 0, Math.max(0, moment));
  draw();
};
const residual = new Chart(
  $("residual"),
  { log: true, low: 0.3, high: 60, ticks: [0.01, 0.1, 1, 10, 100], text: (x, long) => (long ? x.toPrecision(3) : `${x}`) },
  show,
);
const confidence = new Chart(
  $("confidence"),
  { low: 0, high: 1, ticks: [0, 0.5, 1], text: (x, long) => `${(100 * x).toFixed(long ? 1 : 0)}%` },
  show,
);
const map = new AnswerMap($("map"));
const lanes = new Lanes($("lanes"), (start) => {
  state.start = start;
  draw();
});

const kind = () => KINDS[state.task];
const puzzle = () => state.puzzles[state.task];

/** Makes this the puzzle of the task, and forgets the run on the one before. */
function pose(tokens, chosen = "own") {
  state.puzzles[state.task] = tokens;
  state.chosen[state.task] = chosen;
  state.check = kind().check(tokens);
  forget();
}

function forget() {
  if (state.run) state.run.active = false;
  Object.assign(state, { run: null, moment: 0, start: null });
  map.clear();
  say(state.ready ? "" : $("verdict").textContent);
  draw();
}

/** A change of one cell that a person asks for. A maze keeps one start and one goal. */
function edit(cell, token) {
  const tokens = [...puzzle()];
  const old = tokens[cell];
  const wanted = token === "turn" ? (old === WALL ? OPEN : WALL) : token;
  if (old === wanted) return;
  if (state.task === "maze") {
    if (wanted === START || wanted === GOAL) {
      const end = tokens.indexOf(wanted);
      if (end >= 0) tokens[end] = OPEN;
    } else if (token === "turn" && (old === START || old === GOAL)) {
      return;
    }
  }
  tokens[cell] = wanted;
  pose(tokens);
}

function say(text, kindOf = "") {
  $("verdict").textContent = text;
  $("verdict").className = `verdict ${kindOf}`;
}

/** Shows everything as the state has it. */
function draw() {
  const { run, moment } = state;
  const depth = run?.depth ?? +$("depth").value;
  const breadth = run?.breadth ?? +$("breadth").value;
  const shown = run?.length ? (state.start ?? run.leader(run.length)) : 0;
  board.show(puzzle(), run?.row(shown, moment) ?? null, moment > 1 ? run.row(shown, moment - 1).answer : null);

  if (lanes.lanes?.length !== breadth || lanes.depth !== depth) {
    lanes.use(breadth, depth);
    lanes.depth = depth;
  }
  const none = Array.from({ length: breadth }, () => []);
  const right = run ? run.rightSince(moment) : none.map(() => 0);
  residual.draw(run?.residuals ?? none, depth, shown, moment);
  confidence.draw(run?.confidences ?? none, depth, shown, moment);
  lanes.draw(run?.residuals ?? none, right, run?.length ? shown : -1, moment);
  map.draw(shown, moment, right.map(Boolean));

  $("depth-value").textContent = $("depth").value;
  $("breadth-value").textContent = $("breadth").value;
  $("moment").max = run?.length ?? 0;
  $("moment").value = moment;
  $("moment").disabled = !run?.length;
  const where = moment ? `Iteration ${moment} of ${depth}` : "The puzzle, before the first iteration";
  $("moment-label").textContent = moment && breadth > 1 ? `${where}, start ${shown + 1}` : where;
  $("think").textContent = run?.active ? "Stop" : "Think";
  $("think").disabled = !run?.active && (!state.ready || state.check.blocked === true);
  if ($("check").textContent !== state.check.text) $("check").textContent = state.check.text;
  $("check").className = `check ${state.check.blocked ? "blocked" : state.check.doubtful ? "doubt" : ""}`;
  $("example").value = state.chosen[state.task];
  if (run?.seconds) $("engine").textContent = `${state.engine}, ${run.seconds.toPrecision(2)} s an iteration`;
  if ($("numbers").open) tabulate(shown);
}

/** The table of all numbers of a start. */
function tabulate(start) {
  const { run } = state;
  const row = (cells, name = "td") => {
    const line = document.createElement("tr");
    line.append(...cells.map((text) => Object.assign(document.createElement(name), { textContent: text })));
    return line;
  };
  const head = ["Iteration", "Seconds", "Cells changed", "Residual", "q_halt", "Confidence", "Keeps the rules"];
  const rows = (run?.iterations ?? []).map(({ milliseconds, rows }, i) => {
    const { residual: moved, qHalt, fault } = rows[start];
    const moves = Number.isNaN(moved) ? "" : moved.toPrecision(4);
    const sure = `${(100 * run.confidences[start][i]).toFixed(1)}%`;
    const changed = run.changed(start, i + 1);
    return row([i + 1, (milliseconds / 1000).toFixed(3), changed, moves, qHalt.toFixed(2), sure, fault ? "no" : "yes"]);
  });
  const caption = Object.assign(document.createElement("caption"), { textContent: `Start ${start + 1}` });
  $("table").replaceChildren(caption, row(head, "th"), ...rows);
}

/** Runs the model on the puzzle, or stops it. */
async function think() {
  if (state.run?.active) {
    state.run.active = false;
    finish(state.run);
    return;
  }
  if (!state.ready || state.check.blocked) return;
  const run = new Run(kind(), puzzle(), +$("depth").value, +$("breadth").value);
  Object.assign(state, { run, moment: 0, start: null });
  map.clear();
  say("Thinking …");
  draw();
  try {
    for await (const iteration of runner.iterations(state.task, run.puzzle, run.depth, run.breadth, state.seed++)) {
      if (!run.active) return;
      const following = state.moment === run.length;
      run.add(iteration);
      map.add(iteration.rows.map((row) => row.probabilities));
      if (following) state.moment = run.length;
      if (run.solved?.iteration === run.length) say(run.verdict.text, run.verdict.kind);
      draw();
    }
    run.active = false;
    finish(run);
  } catch (error) {
    run.active = false;
    if (state.run === run) say(`The model stopped: ${error.message}`, "wrong");
    draw();
  }
}

function finish(run) {
  if (run.length) say(run.verdict.text, run.verdict.kind);
  else say("");
  draw();
}

/** Shows the puzzle of a task, and loads its model. */
async function turnTo(task) {
  if (state.run) state.run.active = false;
  state.task = task;
  state.ready = false;
  document.body.dataset.task = task;
  document.querySelector(`#task [value=${task}]`).checked = true;
  const names = EXAMPLES[task].map(([name], index) => new Option(name, index));
  $("example").replaceChildren(...names, new Option("Your own", "own"));
  const signs = task === "sudoku" ? "A Sudoku: 81 signs, or nine rows" : "A maze: 30 rows of # for walls, with S and G";
  $("text-label").textContent = signs;
  board.use(kind());
  pose(puzzle(), state.chosen[task]);
  say("Loading the model …");
  $("loading").hidden = false;
  try {
    const { engine, threads } = await runner.load(task, query.get("engine"));
    if (state.task !== task) return;
    const named = { webgpu: "WebGPU", wasm: `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}` }[engine];
    if (!state.engine && engine === "webgpu") $("breadth").value = 4;
    state.engine = named;
    state.ready = true;
    $("engine").textContent = named;
    say("");
  } catch (error) {
    if (state.task === task) say(`The model cannot be used: ${error.message}`, "wrong");
  }
  if (state.task === task) $("loading").hidden = true;
  draw();
}

/** Takes the first puzzle of a text. Returns what is wrong with it, or nothing. */
function take(text) {
  try {
    const puzzles = read(text);
    const [{ kind: found, tokens }] = puzzles;
    const known = Object.values(KINDS).find(({ name }) => name === found.name);
    if (!known) return `This is a ${found.name}, but the models here know 9x9 Sudokus and 30x30 mazes.`;
    if (known.task !== state.task) turnTo(known.task);
    pose(tokens);
    if (puzzles.length > 1) say(`The first of ${puzzles.length} puzzles is on the board.`);
    return "";
  } catch (error) {
    return `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
  }
}

const DOINGS = {
  think: () => !state.run?.active && think(),
  deep: () => {
    state.task = "sudoku";
    $("depth").value = 32;
    pose(EXAMPLES.sudoku[3][1](), "3");
    think();
  },
  race: () => {
    $("breadth").value = 4;
    forget();
    think();
  },
};

for (const digit of "123456789") {
  $("keys").append(Object.assign(document.createElement("button"), { type: "button", textContent: digit }));
}
$("keys").append(Object.assign(document.createElement("button"), { type: "button", textContent: "⌫", ariaLabel: "Blank" }));
$("keys").addEventListener("click", ({ target }) => {
  if (target.type === "button") board.enter(target.textContent === "⌫" ? 1 : +target.textContent + 1);
});
$("task").addEventListener("change", ({ target }) => turnTo(target.value));
$("tools").addEventListener("change", ({ target }) => {
  board.tool = target.value;
  $("board").dataset.tool = target.value;
});
$("example").addEventListener("change", ({ target }) => {
  const example = EXAMPLES[state.task][target.value];
  if (example) pose(example[1](), target.value);
});
$("fresh").addEventListener("click", () => pose(fresh[state.task](next)));
$("empty").addEventListener("click", () => pose(empty[state.task]()));
$("use").addEventListener("click", () => ($("text-fault").textContent = take($("text").value)));
document.addEventListener("paste", (event) => {
  if (event.target === $("text")) return;
  $("text").value = event.clipboardData.getData("text");
  $("text-fault").textContent = take($("text").value);
  $("paste").open ||= $("text-fault").textContent !== "";
});
for (const dial of ["depth", "breadth"]) $(dial).addEventListener("input", () => (state.run?.active ? draw() : forget()));
$("moment").addEventListener("input", ({ target }) => show(+target.value));
$("numbers").addEventListener("toggle", draw);
$("think").addEventListener("click", think);
document.querySelector(".prose").addEventListener("click", ({ target }) => DOINGS[target.dataset.do]?.());

turnTo(query.get("task") === "maze" ? "maze" : "sudoku");
