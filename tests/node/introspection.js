// An endpoint that knows a backend's keys (RFC 7662), and its bad days. The first line on standard output names its port; a line on
// standard input changes how it behaves; it ends with its standard input.
//   node introspection.js [CERT KEY]      with both it speaks TLS

import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { createInterface } from "node:readline";

const [cert, key] = process.argv.slice(2);
const KEYS = {
  "key-of-ann": { active: true, sub: "ann", email: "ann@shop.test", scope: "READ WRITE", roles: ["clerk"], jti: "k1" },
  "key of bö&b=1": { active: true, sub: 7, scope: "" },
  "key-that-ended": { active: true, sub: "ann", exp: 1_000_000_000 },
  "key-of-nobody": { active: true, scope: "READ" },
};
// What a backend may make of keys that nobody expected.
const odd = {
  deep: (response) => response.end(`${'{"a":'.repeat(20_000)}1${"}".repeat(20_000)}`),
  huge: (response) => response.end(`{"active":true,"sub":"ann","p":"${"x".repeat(100_000)}"}`),
  stumbled: (response) => response.writeHead(500).end("Internal Server Error"),
  filtered: (response) => response.writeHead(403).end("<html>Blocked</html>"),
};
const LOGIN = `Basic ${Buffer.from("gate%3Away:p%25ss+word").toString("base64")}`;
let [mode, asked] = ["well", 0];

const answers = {
  well: (response, answer) => response.setHeader("content-type", "application/json").end(JSON.stringify(answer)),
  garbage: (response) => response.end("<html>It works!</html>"),
  neither: (response) => response.end('{"active":"true","sub":"ann"}'),
  twice: (response) => response.end('{"active":false,"active":true,"sub":"ann"}'),
  huge: (response, answer) => response.end(JSON.stringify({ ...answer, padding: "x".repeat(10_000_000) })),
  refused: (response) => response.writeHead(400).end(),
  error: (response) => response.writeHead(503).end('{"active":true,"sub":"ann"}'),
  redirect: (response) => response.writeHead(307, { location: "https://elsewhere.test/" }).end(),
  slow: () => {},
};

const serve = async (request, response) => {
  if (request.url === "/asked") return response.end(String(asked));
  asked += 1;
  let body = "";
  for await (const chunk of request) body += chunk;
  const form = new URLSearchParams(body);
  const fits = request.method === "POST" && request.headers.authorization === LOGIN;
  if (!fits || request.headers["content-type"] !== "application/x-www-form-urlencoded") return response.writeHead(401).end();
  const confused = odd[form.get("token").split("-")[0]];
  if (mode === "well" && confused) return confused(response);
  return answers[mode](response, KEYS[form.get("token")] ?? { active: false });
};

const server = cert ? https.createServer({ cert: readFileSync(cert), key: readFileSync(key) }, serve) : http.createServer(serve);
server.listen(0, "127.0.0.1", () => process.stdout.write(`${server.address().port}\n`));
for await (const line of createInterface({ input: process.stdin })) {
  mode = line;
  process.stdout.write(`${mode}\n`);
}
process.exit();
