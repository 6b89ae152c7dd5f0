// Serves this page under /app/ from its own folder, and the package `gapura` from ../../../clients/js: no CDN can change the
// code that seals. The gateway puts page and API on one origin (../gapura.toml), so no CORS is needed.
//
//     node serve.js --port 0       # the first line on standard output names the port
"use strict";

const { readFileSync } = require("node:fs");
const { createServer } = require("node:http");
const { join } = require("node:path");
const { parseArgs } = require("node:util");

// A fixed list: no path of a request ever reaches the file system.
const FILES = {
  "/app/": ["text/html; charset=utf-8", join(__dirname, "index.html")],
  "/app/page.css": ["text/css; charset=utf-8", join(__dirname, "page.css")],
  "/app/page.js": ["text/javascript; charset=utf-8", join(__dirname, "page.js")],
  "/app/gapura.js": ["text/javascript; charset=utf-8", join(__dirname, "../../../clients/js/dist/gapura.min.js")],
  "/app/README.md": ["text/plain; charset=utf-8", join(__dirname, "README.md")],
};

const { values } = parseArgs({ options: { host: { type: "string" }, port: { type: "string" } } });
const host = values.host ?? process.env.HOST ?? "127.0.0.1";

const server = createServer((request, response) => {
  const file = FILES[request.url];
  if (request.url === "/app") {
    response.writeHead(308, { Location: "/app/" }).end();
  } else if (file === undefined || !["GET", "HEAD"].includes(request.method)) {
    response.writeHead(404).end();
  } else {
    const content = readFileSync(file[1]);
    response.writeHead(200, { "Content-Type": file[0], "Content-Length": content.length });
    response.end(request.method === "HEAD" ? undefined : content);
  }
});
server.listen(Number(values.port ?? process.env.PORT ?? 8001), host, () =>
  console.log(`listening on http://${host}:${server.address().port}`),
);
