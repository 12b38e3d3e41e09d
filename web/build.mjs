// Puts the page and its runtime into dist/, beside the models that are there, and removes what is old.

import { cpSync, mkdirSync, readdirSync, rmSync } from "node:fs";

const here = (path) => new URL(path, import.meta.url);
const page = ["index.html", "style.css", "icon.svg", "src"];
const runtime = "node_modules/onnxruntime-web/dist/";
const engines = readdirSync(here(runtime)).filter((name) =>
  /^ort(\.(wasm|webgpu)\.bundle\.min|-wasm-simd-threaded(\.asyncify)?)\.(mjs|wasm)$/.test(name),
);

for (const name of readdirSync(here("dist/"))) if (name !== "models") rmSync(here(`dist/${name}`), { recursive: true });
for (const name of page) cpSync(here(name), here(`dist/${name}`), { recursive: true });
mkdirSync(here("dist/ort/"));
for (const name of engines) cpSync(here(runtime + name), here(`dist/ort/${name}`));
