// The built page in headless Chromium, from end to end. scripts/web.sh --check runs it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import axe from "axe-core";
import { chromium } from "playwright-core";

import { serve } from "../serve.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const DIST = join(ROOT, "web/dist");
const LONG = { timeout: 600_000 };
const HARD = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4..";
const MAZE = readFileSync(join(ROOT, "docs/maze.txt"), "utf8").trimEnd();

const names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
const places = (process.env.PATH ?? "").split(delimiter).flatMap((folder) => names.map((name) => join(folder, name)));
const executablePath = process.env.CHROMIUM ?? places.find(existsSync);
assert.ok(executablePath, "no Chromium is on the PATH (on Debian: apt install chromium); CHROMIUM=FILE names one");

let browser;
const servers = [];
test.before(async () => {
  browser = await chromium.launch({ executablePath, args: process.getuid?.() === 0 ? ["--no-sandbox"] : [] });
});
test.after(async () => {
  await browser?.close();
  servers.forEach((server) => server.close());
});

/** Opens the page. Returns it; errors in it, and requests to other hosts, fail the test. */
async function open(t, { folder = DIST, path = "", isolated = true, ...options } = {}) {
  const server = await serve(folder, 0, isolated);
  servers.push(server);
  const home = `http://localhost:${server.address().port}/`;
  const page = await browser.newPage({ viewport: { width: 1360, height: 940 }, ...options });
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("request", (request) => request.url().startsWith(home) || /^(blob|data):/.test(request.url()) || faults.push(request.url()));
  page.on("requestfailed", (request) => faults.push(`${request.url()} failed`));
  t.after(async () => {
    await page.close();
    assert.deepEqual(faults, []);
  });
  await page.goto(home + path);
  return page;
}

const ready = (page) => page.waitForFunction(() => document.querySelector("#verdict").textContent === "", null, LONG);

async function paste(page, text) {
  await page.locator("#paste summary").click();
  await page.locator("#text").fill(text);
  await page.locator("#use").click();
}

/** Thinks to the end. Returns the verdict and the seconds of an iteration. */
async function think(page, depth, breadth) {
  await page.locator("#depth").fill(String(depth));
  await page.locator("#breadth").fill(String(breadth));
  await page.locator("#think").click();
  await page.waitForFunction(() => document.querySelector("#think").textContent === "Think", null, LONG);
  const engine = await page.locator("#engine").textContent();
  return { verdict: await page.locator("#verdict").textContent(), engine };
}

/** The board as solve.py writes it. */
const board = (page, task) =>
  page.locator(`#board [role=gridcell]`).evaluateAll(
    (cells, task) =>
      cells.map((cell) => {
        if (task === "sudoku") return cell.textContent || ".";
        return cell.textContent || (cell.matches(".wall") ? "#" : cell.matches(".way") ? "o" : " ");
      }).join(""),
    task,
  );

async function solvePy(...words) {
  const run = promisify(execFile)(process.env.PYTHON ?? "python3", ["solve.py", ...words, "--json"], { cwd: ROOT });
  return JSON.parse((await run).stdout);
}

test("the shipped Sudoku is solved in the page, as solve.py solves it", LONG, async (t) => {
  const page = await open(t);
  await ready(page);
  assert.match(await page.locator("#engine").textContent(), /^WebAssembly, \d+ threads?$|^WebGPU$/);
  const expected = solvePy(HARD);
  await paste(page, HARD);
  assert.equal(await page.locator("#check").textContent(), "21 clues, exactly one solution.");
  const { verdict, engine } = await think(page, 6, 1);
  assert.match(verdict, /^Solved in iteration \d of 6, checked by the rules/);
  assert.equal(await board(page, "sudoku"), (await expected).answer);
  t.diagnostic(`Sudoku: ${verdict} ${engine}`);

  await page.locator("#numbers summary").click();
  await page.locator("#table tr").first().waitFor();
  const rows = await page.locator("#table tr").allTextContents();
  assert.equal(rows.length, 7);
  assert.match(rows.at(-1), /yes$/);
  await page.locator("#moment").fill("0");
  assert.equal(await board(page, "sudoku"), HARD);
});

test("the small maze is solved in the page, as solve.py solves it; starts race", LONG, async (t) => {
  const page = await open(t, { path: "?task=maze" });
  await ready(page);
  const expected = solvePy("docs/maze.txt", "--checkpoint", "checkpoints/maze_unique_small/last.safetensors");
  await paste(page, MAZE);
  assert.match(await page.locator("#check").textContent(), /^Exactly one way from S to G, of 1\d\d steps\.$/);
  const { verdict, engine } = await think(page, 8, 2);
  assert.match(verdict, /^Solved in iteration \d of 8 by start \d, checked by the rules; \d of 2 starts (is|are) right/);
  assert.equal(await board(page, "maze"), (await expected).answer.replaceAll("\n", ""));
  t.diagnostic(`maze, two starts: ${verdict} ${engine}`);
  assert.equal(await page.locator(".lane").count(), 2);
  assert.equal(await page.locator("#residual .curve").count(), 2);
  assert.equal(await page.locator("#map .trail").count(), 2);
  await page.locator(".lane input").first().check();
  assert.match(await page.locator("#moment-label").textContent(), /start 1$/);
});

test("on a phone without threads, from a folder of any host, a drawn maze is solved", LONG, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "web-"));
  t.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, "some"));
  symlinkSync(DIST, join(folder, "some/where"));
  const phone = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
  const page = await open(t, { folder, path: "some/where/?task=maze", isolated: false, ...phone });
  await ready(page);
  assert.match(await page.locator("#engine").textContent(), /1 thread$|WebGPU/);
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.equal(await wide(), 0);
  await paste(page, MAZE);

  const cell = page.locator("#board [role=gridcell]").nth(16 * 30 + 5); // above G: a short cut
  const before = await page.locator("#check").textContent();
  await page.locator("#tools [value=open]").tap();
  await cell.tap();
  assert.match(await page.locator("#check").textContent(), /may fail/);
  await page.locator("#tools [value=wall]").tap();
  await cell.tap();
  assert.equal(await page.locator("#check").textContent(), before);

  const { verdict, engine } = await think(page, 8, 1);
  assert.match(verdict, /^Solved/);
  t.diagnostic(`maze on a phone: ${verdict} ${engine}`);
  assert.equal(await wide(), 0);
});

test("faults are said before solving", LONG, async (t) => {
  const page = await open(t);
  await ready(page);
  const check = () => page.locator("#check").textContent();
  const blocked = () => page.locator("#think").isDisabled();
  await paste(page, `55${".".repeat(79)}`);
  assert.match(await page.locator("#text-fault").textContent(), /^The clues clash: .*row 1 column 1, row 1 column 2\.$/);
  await page.locator("#text").fill("1..2.....13.....");
  await page.locator("#use").click();
  assert.match(await page.locator("#text-fault").textContent(), /4x4 Sudoku/);
  await page.locator("#text").fill(`12345678.${".".repeat(17)}9${".".repeat(54)}`);
  await page.locator("#use").click();
  assert.match(await check(), /^No solution/);
  assert.ok(await blocked());

  await page.locator("#empty").click();
  assert.match(await check(), /^Several solutions/);
  await page.locator("#board [role=gridcell]").first().focus();
  for (const key of ["5", "ArrowRight", "5"]) await page.keyboard.press(key);
  assert.match(await check(), /^The clues clash/);
  assert.ok(await blocked());
  assert.match(await page.locator("#board [role=gridcell]").nth(1).getAttribute("aria-label"), /^row 1 column 2, clue 5, clashes$/);
  await page.keyboard.press("Delete");
  assert.ok(!(await blocked()));
  await page.locator("#fresh").click();
  assert.match(await check(), /^\d\d clues, exactly one solution\.$/);
});

test("keys reach everything, and a change ends the thinking", LONG, async (t) => {
  const page = await open(t, { path: "?task=maze" });
  await ready(page);
  const cells = page.locator("#board [role=gridcell]");
  assert.equal(await page.locator("#board [tabindex='0']").count(), 1);
  await cells.first().focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("End");
  await page.keyboard.press(" ");
  assert.match(await cells.nth(59).getAttribute("aria-label"), /^row 2 column 30, open$/);
  await page.keyboard.press("g");
  assert.match(await page.locator("#check").textContent(), /^No solution/);
  assert.equal(await page.locator("#board .goal").count(), 1);
  await page.locator("#example").selectOption("0");
  await page.locator("#depth").fill("64");
  await page.locator("#think").focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => /^Iteration [2-9]/.test(document.querySelector("#moment-label").textContent), null, LONG);
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#think").textContent(), "Think");
  assert.match(await page.locator("#verdict").textContent(), /olved/);
  await page.locator("#fresh").click();
  assert.equal(await page.locator("#verdict").textContent(), "");
});

for (const colorScheme of ["light", "dark"]) {
  test(`no fault that axe can find: roles, names, contrast (${colorScheme})`, LONG, async (t) => {
    for (const task of ["sudoku", "maze"]) {
      const page = await open(t, { path: `?task=${task}`, colorScheme });
      await ready(page);
      for (const details of await page.locator("summary").all()) await details.click();
      if (task === "maze") await think(page, 2, 2);
      await page.evaluate(axe.source);
      const { violations } = await page.evaluate(() => window.axe.run());
      const found = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html).join(" ")}`);
      assert.deepEqual(found, []);
    }
  });
}
