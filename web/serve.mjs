// Serves dist/ on this computer alone: node serve.mjs [PORT]. Pages may use threads (COOP and COEP).

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".onnx": "application/octet-stream",
};
const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

/** Serves a folder on a port of localhost; 0 takes a free one. Returns the server once it listens. */
export function serve(folder, port, isolated = true) {
  const server = createServer((request, response) => {
    try {
      const { pathname } = new URL(request.url, "http://localhost");
      const file = join(folder, normalize(decodeURIComponent(pathname)).replace(/\/$/, "/index.html"));
      const content = readFileSync(file);
      const type = TYPES[extname(file)] ?? "text/plain";
      const headers = { "Content-Type": type, "Content-Length": content.length, "Cache-Control": "no-cache" };
      response.writeHead(200, { ...headers, ...(isolated ? ISOLATED : {}) }).end(content);
    } catch {
      response.writeHead(404).end("not found");
    }
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const port = Number(process.argv[2] ?? 8000);
  serve(fileURLToPath(new URL("dist", import.meta.url)), port)
    .then(() => console.log(`http://localhost:${port} (Ctrl-C stops)`))
    .catch((error) => {
      const reason = error.code === "EADDRINUSE" ? `port ${port} is taken: name another` : error.message;
      console.error(`error: ${reason}`);
      process.exit(1);
    });
}
