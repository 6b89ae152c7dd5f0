// The payment service of ../fastapi once more, on Express: same endpoints, same answers.
//
// It holds no keys, verifies no tokens, counts no requests and decrypts nothing. Like any service behind an
// authenticating proxy it takes the caller's identity from `X-User-*` headers, so it must listen where only the proxy
// reaches it (127.0.0.1 by default). Without a proxy, on a laptop, every caller is the user `local`.
//
//     node app.js                      # http://127.0.0.1:8000
//     node app.js --port 0             # any free port; the first line on standard output names it

import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import express from "express";
import { WebSocketServer } from "ws";

const MAX_PAYMENTS = 10_000; // the store is memory: the oldest payment makes room for the newest
const MAX_JSON_BYTES = 2 * 1024 * 1024;
const MAX_FILE_BYTES = 16 * 1024 * 1024;

const app = express();
app.disable("x-powered-by");

// --- who is asking ----------------------------------------------------------------------------------

function caller(request) {
  // Node decodes header bytes as Latin-1; the proxy writes UTF-8.
  const header = (name) => {
    const value = request.get(name);
    return value === undefined ? null : Buffer.from(value, "latin1").toString("utf8");
  };
  return {
    user_id: header("x-user-id") || "local",
    email: header("x-user-email"),
    roles: (header("x-user-roles") ?? "").split(",").filter(Boolean),
  };
}

// --- payments ---------------------------------------------------------------------------------------

const CURRENCIES = ["EUR", "GBP", "IDR", "JPY", "USD"];
const payments = new Map(); // in the order of creation

function luhn(card) {
  const sum = [...card].reverse().reduce((total, character, index) => {
    const digit = Number(character) * (index % 2 ? 2 : 1);
    return total + (digit > 9 ? digit - 9 : digit);
  }, 0);
  return sum % 10 === 0;
}

/** The faults of a new payment, in the form FastAPI gives them. No fault repeats its value: it may be a card number. */
function faults(body) {
  if (body === null || typeof body !== "object" || Array.isArray(body)) {
    return [{ type: "dict_type", loc: ["body"], msg: "Input should be an object" }];
  }
  const rules = {
    amount: (value) => Number.isInteger(value) && value > 0 && value <= 100_000_000,
    currency: (value) => CURRENCIES.includes(value),
    card: (value) => typeof value === "string" && /^[0-9]{12,19}$/.test(value) && luhn(value),
    reference: (value) => value === undefined || value === null || (typeof value === "string" && value.length <= 140),
  };
  const found = Object.keys(body)
    .filter((field) => !Object.hasOwn(rules, field))
    .map((field) => ({ type: "extra_forbidden", loc: ["body", field], msg: "Extra inputs are not permitted" }));
  for (const [field, accepts] of Object.entries(rules)) {
    if (field !== "reference" && !Object.hasOwn(body, field)) {
      found.push({ type: "missing", loc: ["body", field], msg: "Field required" });
    } else if (!accepts(body[field])) {
      found.push({ type: "value_error", loc: ["body", field], msg: `Not a valid ${field}` });
    }
  }
  return found;
}

/** The payment of this caller. Somebody else's and none at all look alike: ids cannot be probed. */
function find(request) {
  const payment = payments.get(request.params.id);
  if (payment === undefined || payment.user_id !== caller(request).user_id) {
    throw Object.assign(new Error("no such payment"), { status: 404, expose: true });
  }
  return payment;
}

app.post("/payments", express.json({ limit: MAX_JSON_BYTES, strict: false }), (request, response) => {
  const detail = faults(request.body ?? null);
  if (detail.length > 0) {
    response.status(422).json({ detail });
    return;
  }
  const { amount, currency, card, reference = null } = request.body;
  const payment = {
    id: `pay_${randomBytes(8).toString("hex")}`,
    status: "authorized",
    amount,
    currency,
    card_last4: card.slice(-4), // all that is kept of the card
    reference,
    user_id: caller(request).user_id,
    created_at: new Date().toISOString(),
  };
  payments.set(payment.id, payment);
  if (payments.size > MAX_PAYMENTS) payments.delete(payments.keys().next().value);
  console.error(`payment created id=${payment.id}`);
  response.status(201).location(`/payments/${payment.id}`).json(payment);
});

app.get("/payments", (request, response) => {
  const limit = Number(request.query.limit ?? 20);
  if (!Number.isInteger(limit) || limit < 1 || limit > 100) {
    response.status(422).json({ detail: [{ type: "value_error", loc: ["query", "limit"], msg: "1 to 100" }] });
    return;
  }
  const user = caller(request).user_id;
  const own = [...payments.values()].reverse().filter((payment) => payment.user_id === user);
  response.json(own.slice(0, limit));
});

app.get("/payments/:id", (request, response) => {
  response.json(find(request));
});

app.delete("/payments/:id", (request, response) => {
  const { id } = find(request);
  payments.delete(id);
  console.error(`payment cancelled id=${id}`);
  response.status(204).end();
});

// --- everything else a gateway has to carry ---------------------------------------------------------

app.get("/healthz", (_, response) => {
  response.json({ status: "ok" });
});

app.get("/me", (request, response) => {
  response.json(caller(request));
});

/** Server-sent events. A proxy that buffers shows: nothing arrives before the last one. */
app.get("/events", async (request, response) => {
  const count = Number(request.query.count ?? 5);
  const interval = Number(request.query.interval ?? 1); // seconds
  if (!Number.isInteger(count) || count < 0 || count > 10_000 || !(interval >= 0 && interval <= 60)) {
    response.status(422).json({ detail: [{ type: "value_error", loc: ["query"], msg: "count to 10000, interval to 60" }] });
    return;
  }
  response.set({ "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache" });
  response.flushHeaders();
  for (let number = 0; number < count && !response.destroyed; number += 1) {
    if (number > 0) await sleep(interval * 1000);
    response.write(`event: tick\ndata: ${JSON.stringify({ number })}\nid: ${number}\n\n`);
  }
  response.end();
});

/** Reads a body of any length piece by piece and answers with its size and digest. */
app.put("/files/:name", async (request, response) => {
  const digest = createHash("sha256");
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > MAX_FILE_BYTES) {
      response.status(413).set("Connection", "close").json({ detail: `more than ${MAX_FILE_BYTES} bytes` });
      return;
    }
    digest.update(chunk);
  }
  response.json({ name: request.params.name, bytes, sha256: digest.digest("hex") });
});

// `inflate: false` and `type: everything`: the body as it came over the wire, whatever its headers say about it.
const rawBody = express.raw({ limit: MAX_FILE_BYTES, type: () => true, inflate: false });

/** The body, byte for byte, under its own content type. */
app.post("/echo", rawBody, (request, response) => {
  response.set("Content-Type", request.get("content-type") ?? "application/octet-stream");
  response.send(request.body ?? Buffer.alloc(0));
});

/** The request as it arrived here: what a proxy added, removed or rewrote. For learning and tests, not production. */
app.all(["/debug/request", "/debug/request/*rest"], rawBody, (request, response) => {
  const [path, query = ""] = request.originalUrl.split(/\?(.*)/s);
  const headers = [];
  for (let at = 0; at < request.rawHeaders.length; at += 2) {
    headers.push([request.rawHeaders[at].toLowerCase(), request.rawHeaders[at + 1]]);
  }
  const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  response.json({
    http_version: request.httpVersion,
    method: request.method,
    path, // before percent-decoding
    query,
    headers,
    body_base64: body.toString("base64"),
  });
});

app.use((_, response) => {
  response.status(404).json({ detail: "Not Found" });
});

// Express tells an error handler from a middleware by its four parameters.
app.use((error, _request, response, _next) => {
  if (error.type === "entity.parse.failed") {
    // The parser's own message quotes the body.
    response.status(422).json({ detail: [{ type: "json_invalid", loc: ["body"], msg: "JSON decode error" }] });
    return;
  }
  const status = error.status ?? 500;
  if (status === 500) console.error(`unexpected ${error.name}`); // a message may quote the request
  response.status(status).json({ detail: error.expose ? error.message : "Internal Server Error" });
});

// --- start ------------------------------------------------------------------------------------------

const { values: options } = parseArgs({ options: { host: { type: "string" }, port: { type: "string" } } });
const host = options.host ?? process.env.HOST ?? "127.0.0.1";
const port = Number(options.port ?? process.env.PORT ?? 8000);

const server = createServer(app);
const sockets = new WebSocketServer({ server, path: "/ws", maxPayload: MAX_FILE_BYTES });
sockets.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("error", () => socket.terminate()); // over maxPayload, or not a WebSocket frame
});

server.listen(port, host, () => console.log(`listening on http://${host}:${server.address().port}`));

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    server.close();
    sockets.clients.forEach((socket) => socket.close(1001));
    setTimeout(() => server.closeAllConnections(), 3000).unref(); // an endless event stream does not hold the process
  });
}
