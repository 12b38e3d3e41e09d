// Every notation in tests/cases/notations.json is read as it says, or refused in a sentence that says what it says.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { read } from "../src/reading/reading.js";

const CASES = JSON.parse(readFileSync(new URL("../../tests/cases/notations.json", import.meta.url), "utf8"));
/** A page gets text: what is given as bytes, or is refused as another kind of file, is no matter of it. */
const TEXTS = CASES.filter(({ text, refused }) => text !== undefined && !refused?.some((words) => words.includes("Git LFS")));

test("there are cases to read", () => assert.ok(TEXTS.length > 100));

for (const { name, text, refused, puzzles } of TEXTS) {
  test(`${refused ? "refuses" : "reads"} ${name}`, () => {
    if (refused) {
      assert.throws(
        () => read(text),
        ({ message }) => !message.includes("\n") && refused.every((words) => message.includes(words)),
      );
      return;
    }
    const found = read(text).map(({ kind, tokens, line }) => ({ board: kind.name, line, cells: kind.characters(tokens) }));
    assert.deepEqual(found, puzzles);
  });
}
