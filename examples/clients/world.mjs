// The FastAPI example, the page's server and the gateway, on free ports, with gapura.toml as it stands beside this file.

import { spawn } from "node:child_process";
import { createHmac, generateKeyPairSync, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));
const READY_WITHIN_MS = 30_000;
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const pem = (type, options) => generateKeyPairSync(type, options).privateKey.export({ type: "pkcs8", format: "pem" });

/** Starts all of it; `more` is added to the configuration. `plain` is the gateway without TLS, for tests in this process. */
export async function startWorld(more = "") {
  const folder = mkdtempSync(join(tmpdir(), "gapura-clients-"));
  const running = [];
  const start = (name, program, commandLine, environment = {}) => {
    const child = spawn(program, commandLine, { env: { ...process.env, ...environment }, stdio: ["ignore", "pipe", "pipe"] });
    const entry = { name, child, log: "" };
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (entry.log += chunk));
    child.once("error", (error) => (entry.log += error.message));
    running.push(entry);
    return entry;
  };
  const stop = async () => {
    for (const { child } of running.toReversed()) {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) continue;
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await ended;
    }
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const service = start("the service", join(root, ".venv/bin/python"), [join(root, "examples/fastapi/app.py"), "--port", "0"]);
    const page = start("the page", process.execPath, [here("browser/serve.js"), "--port", "0"]);
    const [https, http, admin] = [await freePort(), await freePort(), await freePort()];
    const listening = ({ log }) => /listening on http:.*:(\d+)/.exec(log)?.[1];
    const replaced = {
      "127.0.0.1:8443": `127.0.0.1:${https}`,
      "127.0.0.1:9180": `127.0.0.1:${admin}`,
      "127.0.0.1:8001": `127.0.0.1:${await until(page, () => listening(page))}`,
      "127.0.0.1:8000": `127.0.0.1:${await until(service, () => listening(service))}`,
    };
    const text = readFileSync(here("gapura.toml"), "utf8")
      .replace(/^(?!#).*$/gm, (line) => line.replace(/127\.0\.0\.1:\d+/, (place) => replaced[place] ?? place))
      .replace("[server]\n", `[server]\nhttp = ["127.0.0.1:${http}"]\nplaintext = true\n`);
    const config = join(folder, "gapura.toml");
    writeFileSync(config, `${text}\n${more}`);
    const jwtSecret = random();
    const program = process.env.GAPURA_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "debug/gapura");
    const gateway = start("the gateway", program, ["run", "--config", config], {
      JWT_SECRET: jwtSecret,
      SESSION_SECRET: random(),
      MASTER_KEY: random(),
      BODIES_KEY: pem("ec", { namedCurve: "P-256" }),
      CURVE_KEY: pem("x25519"),
      NEXT_KEY: pem("ec", { namedCurve: "P-256" }),
    });
    await until(gateway, async () => (await fetch(`http://127.0.0.1:${admin}/readyz`).catch(() => ({}))).ok);
    const certificate = join(folder, "gateway.pem");
    writeFileSync(certificate, await certificateOf(https));
    return {
      url: `https://127.0.0.1:${https}`,
      plain: `http://127.0.0.1:${http}`,
      certificate,
      token: (claims) => tokenOf(claims, jwtSecret),
      /** Changes the configuration while the gateway runs, and waits until `condition` says that it took it. */
      async reload(change, condition) {
        const before = readFileSync(config, "utf8");
        const text = change(before);
        if (text === before) throw new Error("nothing to reload: the configuration stayed as it was");
        writeFileSync(config, text);
        gateway.child.kill("SIGHUP");
        await until(gateway, condition);
      },
      stop,
    };
  } catch (error) {
    const logs = running.map(({ name, log }) => `--- ${name} ---\n${log.slice(-4000)}`).join("\n");
    await stop();
    throw new Error(`${error.message}\n${logs}`);
  }
}

const random = () => randomBytes(32).toString("hex");

/** HS256, for five minutes. */
function tokenOf(claims, secret) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ exp: Math.floor(Date.now() / 1000) + 300, ...claims })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

/** Waits for a condition, not for a time; gives its value. Ends early when the process that should fulfil it ends. */
async function until({ name, child }, condition) {
  for (const deadline = Date.now() + READY_WITHIN_MS; ; await sleep(20)) {
    const value = await condition();
    if (value) return value;
    if (child.pid === undefined || child.exitCode !== null) throw new Error(`${name} ended before it was ready`);
    if (Date.now() > deadline) throw new Error(`${name} was not ready within ${READY_WITHIN_MS / 1000} s`);
  }
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** What the gateway shows, to be trusted from here on: no client in the tests skips verification. */
async function certificateOf(port) {
  const socket = tls.connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const certificate = socket.getPeerX509Certificate().toString();
  socket.destroy();
  return certificate;
}
