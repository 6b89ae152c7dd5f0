// The demonstration behind `make run`. Reads top-down: main, then its steps.
//
//   client (crypto-js) ──TLS──▶ gateway ──▶ tap ──▶ FastAPI example, unchanged
//
// Every secret is made for this run and dies with it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, createWriteStream, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import { isatty } from "node:tty";
import { fileURLToPath } from "node:url";
import { connect, issueToken } from "../../examples/clients/node/client.js";
import { sideBySide } from "./panels.mjs";
import { tap } from "./tap.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const gapura = process.env.GAPURA_BIN;
const onceOnly = process.env.GAPURA_DEMO_ONCE === "1";
const READY_WITHIN_MS = 20_000;
const STOP_WITHIN_MS = 5_000;

const directory = mkdtempSync(join(tmpdir(), "gapura-demo-")); // mode 0700
const running = []; // { name, child, log }
let stopping = false;

async function main() {
  const secrets = { JWT_SECRET: random(), MASTER_KEY: random(), API_KEY_SALT: random() };
  const apiKey = random();
  const alice = { userId: "u-1001", email: "alice@example.com", roles: ["customer"] };

  say("starting the service: examples/fastapi, as it is");
  const service = start("service", join(root, ".venv/bin/python"), [join(root, "examples/fastapi/app.py"), "--port", "0"]);
  const [, servicePort] = await until("the service to listen", service, () => /listening on http:.*:(\d+)/.exec(service.log));
  const wire = await tap(Number(servicePort));

  const port = await freePort(8443);
  const adminPort = await freePort(9180);
  const config = writeConfig({ port, adminPort, upstreamPort: wire.port, apiKeyHash: await hashOf(apiKey, secrets) });
  say(`starting the gateway: https://127.0.0.1:${port}`);
  const gateway = start("gateway", gapura, ["run", "--config", config], secrets);
  const admin = `http://127.0.0.1:${adminPort}`;
  await until("the gateway to be ready", gateway, async () => (await fetch(`${admin}/readyz`).catch(() => ({}))).ok);

  const url = `https://127.0.0.1:${port}`;
  const certificate = await certificateOf(port, gateway.log);
  const client = connect({
    url,
    ...alice,
    masterKey: secrets.MASTER_KEY,
    authorization: `Bearer ${issueToken(alice, secrets.JWT_SECRET)}`,
    tls: { ca: certificate },
  });
  const result = await client.send("POST", "/payments", {
    amount: 1999,
    currency: "EUR",
    card: "4242424242424242",
    reference: "Café Zoë, table 7",
  });
  if (result.status !== 201) throw new Error(`the payment was answered with ${result.status}: ${JSON.stringify(result.payload)}`);
  const requestId = result.headers["x-request-id"];
  const seen = wire.find(requestId);
  if (seen === undefined) throw new Error(`request ${requestId} did not pass the wire to the service`);
  wire.forget();
  show(result, seen);

  const environment = writeEnvironment({ ...secrets, API_KEY: apiKey, URL: url, ADMIN: admin }, certificate);
  const commands = readyMade(environment);
  console.log("\nTry it, in another terminal while this one runs:\n");
  for (const { what, command } of commands) console.log(`# ${what}\n${command}\n`);

  if (onceOnly) {
    for (const { what, command, expect } of commands) await check(what, command, expect);
    say("all commands did what they say");
    return;
  }
  say("everything is up. Ctrl-C stops it");
  await new Promise((_, reject) => {
    for (const { name, child } of running) {
      child.once("exit", () => stopping || reject(new Error(`the ${name} ended by itself`)));
    }
  });
}

// --- what is shown ----------------------------------------------------------------------------------

function show({ sent, answer, status, headers, payload }, seen) {
  const pretty = (value) => JSON.stringify(value, null, 2);
  // Credentials are shortened: they say what they are, and are of no use to whoever reads the screen.
  const short = (head) => head.replace(/^(authorization: \S+ .{12}).*$/gim, "$1…");
  const columns = [
    { title: "1. The client sent", text: `POST /payments\nAuthorization: Bearer …\n\n${pretty(sent)}` },
    { title: "2. The service saw", text: `${short(seen.head).replaceAll("\r\n", "\n")}\n\n${seen.body}` },
    {
      title: "3. Came back",
      text: `${status}\nx-request-id: ${headers["x-request-id"]}\n\n${pretty(answer)}\n\nopened by the client:\n${pretty(payload)}`,
    },
  ];
  const width = Math.min(Math.max(process.stdout.columns ?? 100, 100), 160);
  console.log(`\n${sideBySide(columns, { width, bold: process.stdout.isTTY && !process.env.NO_COLOR })}`);
}

/** Commands to paste, each with what it must print: with GAPURA_DEMO_ONCE they are run, so that they stay true. */
function readyMade(environment) {
  const load = `. ${environment}`;
  const caller = "--master-key env:MASTER_KEY --user-id acme --email pay@acme.example";
  return [
    {
      what: "an API key instead of a token: seal, send, open",
      command:
        `${load}; echo '{"amount":500,"currency":"IDR","card":"4242424242424242"}' |\n` +
        `  gapura encrypt ${caller} |\n` +
        `  curl -s --cacert $CERT -H "Authorization: ApiKey $API_KEY" -H 'Content-Type: application/json' -d @- $URL/payments |\n` +
        `  gapura decrypt ${caller}`,
      expect: /"status":"authorized"/,
    },
    {
      what: "no credential: a problem, and the service never hears of it",
      command: `${load}; curl -si --cacert $CERT $URL/payments`,
      expect: /"CREDENTIALS_MISSING"/,
    },
    {
      what: "120 requests where 100 a minute are allowed; then the gateway's own count of refusals",
      command:
        `${load}; curl -so /dev/null -w '%{http_code}\\n' --cacert $CERT -H "Authorization: ApiKey $API_KEY" \\\n` +
        `  "$URL/me?[1-120]" | sort | uniq -c; curl -s $ADMIN/metrics | grep ^gapura_refusals`,
      expect: /\b429\b[^]*RATE_LIMITED/,
    },
  ];
}

async function check(what, command, expect) {
  const shell = spawn("bash", ["-c", command], { stdio: ["ignore", "pipe", "inherit"] });
  const output = Buffer.concat(await shell.stdout.toArray()).toString("utf8");
  if (!expect.test(output)) throw new Error(`"${what}" printed:\n${output}`);
}

// --- files of this run ------------------------------------------------------------------------------

/** The example's own configuration; only ports and the API key's hash are of this run. */
function writeConfig({ port, adminPort, upstreamPort, apiKeyHash }) {
  let text = readFileSync(join(root, "examples/fastapi/gapura.toml"), "utf8");
  const replaced = {
    "127.0.0.1:8443": `127.0.0.1:${port}`,
    "127.0.0.1:9180": `127.0.0.1:${adminPort}`,
    "127.0.0.1:8000": `127.0.0.1:${upstreamPort}`,
    ["0".repeat(64)]: apiKeyHash,
  };
  // All at once: a port drawn for one place may equal the text looked for in another.
  const places = new RegExp(Object.keys(replaced).join("|").replaceAll(".", "\\."), "g");
  const found = text.match(places)?.length ?? 0;
  if (found !== Object.keys(replaced).length) {
    throw new Error("examples/fastapi/gapura.toml no longer has the addresses and the hash that the demo replaces, once each");
  }
  text = text.replace(places, (place) => replaced[place]);
  const path = join(directory, "gapura.toml");
  writeFileSync(path, text);
  return path;
}

/** What the ready-made commands read. For the owner's eyes, and gone at the end of the run. */
function writeEnvironment(values, certificate) {
  const certificatePath = join(directory, "gateway.pem");
  writeFileSync(certificatePath, certificate);
  const path = join(directory, "env");
  const all = { ...values, CERT: certificatePath };
  const lines = Object.entries(all).map(([name, value]) => `export ${name}='${value}'`);
  writeFileSync(path, `${lines.join("\n")}\nexport PATH='${dirname(gapura)}':"$PATH"\n`);
  chmodSync(path, 0o600);
  return path;
}

async function hashOf(apiKey, secrets) {
  const hashing = spawn(gapura, ["keys", "hash", "--salt", "env:API_KEY_SALT"], {
    env: { ...process.env, ...secrets },
    stdio: ["pipe", "pipe", "inherit"],
  });
  hashing.once("error", () => {}); // not started: no output, which is said below
  hashing.stdin.once("error", () => {});
  hashing.stdin.end(apiKey);
  const hash = Buffer.concat(await hashing.stdout.toArray()).toString("utf8").trim();
  if (!/^[0-9a-f]{64}$/.test(hash)) throw new Error("`gapura keys hash` printed no hash");
  return hash;
}

const random = () => randomBytes(32).toString("hex");

/**
 * The gateway's self-signed certificate, to be trusted from here on: nothing in the demonstration skips verification.
 * That it is the gateway's own is seen by its fingerprint in the gateway's log.
 */
async function certificateOf(port, log) {
  const socket = tls.connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const certificate = socket.getPeerX509Certificate();
  socket.destroy();
  const plain = (text) => text.replaceAll(":", "").toLowerCase();
  if (!plain(log).includes(plain(certificate.fingerprint256))) {
    throw new Error("the certificate on the gateway's port is not the one in the gateway's log");
  }
  return certificate.toString();
}

// --- processes --------------------------------------------------------------------------------------

/** Starts a program of which no copy outlives this process, however this process ends. */
function start(name, program, commandLine, environment = {}) {
  const child = spawn("setpriv", ["--pdeathsig", "TERM", "--", program, ...commandLine], {
    cwd: root,
    env: { ...process.env, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true, // Ctrl-C comes to this process alone, which then stops the others in order
  });
  const entry = { name, child, log: "" };
  const file = createWriteStream(join(directory, `${name}.log`));
  for (const stream of [child.stdout, child.stderr]) {
    stream.pipe(file, { end: false });
    stream.on("data", (chunk) => (entry.log = (entry.log + chunk).slice(-64 * 1024)));
  }
  child.once("error", (error) => (entry.log += error.message));
  running.push(entry);
  return entry;
}

/** Waits for a condition, not for a time; gives its value. Ends early when the process that should fulfil it ends. */
async function until(what, { name, child }, condition) {
  const deadline = Date.now() + READY_WITHIN_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (child.exitCode !== null || child.signalCode !== null) throw new Error(`the ${name} ended while waiting for ${what}`);
    if (Date.now() > deadline) throw new Error(`waited ${READY_WITHIN_MS / 1000} s for ${what}`);
    await sleep(50);
  }
}

/** `preferred`, or any free port when it is taken. Somebody may take it before the gateway does; then the gateway says so. */
async function freePort(preferred) {
  for (const port of [preferred, 0]) {
    const server = createServer();
    const got = await new Promise((resolve) => {
      server.once("error", () => resolve(undefined));
      server.listen({ port, host: "127.0.0.1", exclusive: true }, () => resolve(server.address().port));
    });
    if (got === undefined) continue;
    await new Promise((resolve) => server.close(resolve));
    return got;
  }
  throw new Error("no free port on 127.0.0.1");
}

async function stop() {
  stopping = true;
  // The gateway first: it is the one that still accepts.
  for (const { child } of running.toReversed()) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) continue;
    const ended = once(child, "exit");
    child.kill("SIGINT");
    if ((await Promise.race([ended, sleep(STOP_WITHIN_MS, "late", { ref: false })])) === "late") {
      child.kill("SIGKILL");
      await ended;
    }
  }
  rmSync(directory, { recursive: true, force: true });
}

function say(text) {
  console.log(`demo: ${text}`);
}

async function fail(error) {
  console.error(`\ndemo: failed: ${error.message}`);
  for (const { name, log } of running) {
    if (log !== "") console.error(`\n--- the ${name}'s last lines ---\n${log.trimEnd().split("\n").slice(-20).join("\n")}`);
  }
  await stop();
  process.exit(1);
}

async function stopOn(reason) {
  if (stopping) return; // `make` and the terminal may both pass a signal on; stop() ends by itself
  say(`stopping (${reason})`);
  await stop();
  process.exit(0);
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => stopOn(signal));

// A closed terminal takes the output along; that must not keep the rest from being stopped. Nor does SIGHUP always come:
// it goes to the session's leader, and where that is `make` (`ssh host -t make run`) it waits for us instead.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
if (isatty(1)) setInterval(() => isatty(1) || stopOn("the terminal is gone"), 1000).unref();

main().then(
  async () => {
    await stop();
    process.exit(0);
  },
  (error) => stopping || fail(error),
);
