// A client of the `cryptojs` envelope, written as the clients in the field are: crypto-js for the body, jsonwebtoken
// for the caller. Nothing in it knows Gapura: the format was there first, and the gateway keeps to it byte for byte.
//
// As a library:
//     const client = connect({ url, userId, email, masterKey, authorization: `Bearer ${token}`, tls: { ca } });
//     const { status, payload } = await client.send("POST", "/payments", { amount: 1999, … });
//
// On the command line, JSON on standard input, the opened answer on standard output:
//     echo '{"amount":1999,"currency":"EUR","card":"4242424242424242"}' |
//       node client.js POST https://127.0.0.1:8443/payments --user-id u-1001 --email alice@example.com \
//         --master-key env:MASTER_KEY --jwt-secret env:JWT_SECRET --insecure
//
// The master key in a client is the weakness of this format: whoever reads the client's memory or its bundle derives
// every user's passphrase, not only their own. On a partner's server that may be acceptable. In a browser or an app it
// is not: there use the package `gapura`, as pay.js beside this file and ../browser do.

import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import CryptoJS from "crypto-js";
import jwt from "jsonwebtoken";

const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

// --- the envelope -----------------------------------------------------------------------------------

/** The caller's passphrase, 64 hex digits. crypto-js stretches it to key and IV itself (EVP_BytesToKey, MD5, salt). */
export function derivePassphrase({ userId, email, masterKey }) {
  return CryptoJS.SHA256(`${userId}_${email}_${masterKey}`).toString(CryptoJS.enc.Hex);
}

/** What tells the gateway, before it decrypts anything, that both sides hold the same passphrase. */
export function keyHash(passphrase) {
  return CryptoJS.SHA256(passphrase).toString(CryptoJS.enc.Hex);
}

/** The request body for `payload`. Every call draws a fresh salt, so equal payloads give different envelopes. */
export function seal(payload, { userId, passphrase, timestamp = Date.now() }) {
  return {
    encryptedData: CryptoJS.AES.encrypt(JSON.stringify(payload), passphrase).toString(),
    keyHash: keyHash(passphrase),
    timestamp,
    userId,
  };
}

/** The payload of an answer, wrapped (`{"success":…,"data":{…}}`) or bare. Throws when it was sealed for another key. */
export function open(answer, { passphrase }) {
  const envelope = answer.data ?? answer;
  if (envelope.keyHash !== keyHash(passphrase)) throw new Error("the answer was sealed under another key");
  const plaintext = CryptoJS.AES.decrypt(envelope.encryptedData, passphrase).toString(CryptoJS.enc.Utf8);
  return JSON.parse(plaintext);
}

export function isEnvelope(body) {
  return typeof (body?.data ?? body)?.encryptedData === "string";
}

// --- the caller -------------------------------------------------------------------------------------

/** A token as the company's login service issues it; here so that the example needs no login service. */
export function issueToken({ userId, email, roles = [], permissions = [] }, secret, expiresIn = "5m") {
  return jwt.sign({ sub: userId, email, roles, permissions }, secret, { algorithm: "HS256", expiresIn });
}

// --- the exchange -----------------------------------------------------------------------------------

/** `tls` goes to node:https: `{ ca }` for a private authority, `{ rejectUnauthorized: false }` for development only. */
export function connect({ url, userId, email, masterKey, authorization, tls = {} }) {
  const passphrase = derivePassphrase({ userId, email, masterKey });
  return {
    /**
     * Sends `payload` sealed (nothing at all when it is undefined). Gives the envelope that was `sent`, the `answer` as
     * it came, and the `payload` inside it; a gateway's own problem comes as plain JSON and is its own payload.
     */
    async send(method, path, payload, headers = {}) {
      const sent = payload === undefined ? undefined : seal(payload, { userId, passphrase });
      const response = await exchange(new URL(path, url), {
        method,
        headers: { ...(authorization && { Authorization: authorization }), ...headers },
        body: sent && JSON.stringify(sent),
        tls,
      });
      const isJson = /^application\/([a-z0-9.+-]+\+)?json\b/i.test(response.headers["content-type"] ?? "");
      const answer = isJson && response.body !== "" ? JSON.parse(response.body) : response.body;
      return {
        status: response.status,
        headers: response.headers,
        sent,
        answer,
        payload: isEnvelope(answer) ? open(answer, { passphrase }) : answer,
      };
    },
  };
}

/** One HTTP exchange; gives status, headers and the body as text. */
function exchange(url, { method, headers, body, tls }) {
  const client = url.protocol === "https:" ? https : http;
  return new Promise((resolve, reject) => {
    const request = client.request(url, {
      ...tls,
      method,
      timeout: 30_000,
      headers: {
        Accept: "application/json",
        ...(body !== undefined && { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) }),
        ...headers,
      },
    });
    request.on("error", reject);
    request.on("timeout", () => request.destroy(new Error("no answer within 30 s")));
    request.on("response", (response) => {
      const chunks = [];
      let size = 0;
      response.on("data", (chunk) => {
        size += chunk.length;
        if (size > MAX_ANSWER_BYTES) request.destroy(new Error(`an answer over ${MAX_ANSWER_BYTES} bytes`));
        chunks.push(chunk);
      });
      response.on("error", reject);
      response.on("end", () =>
        resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString("utf8") }),
      );
    });
    request.end(body);
  });
}

// --- command line -----------------------------------------------------------------------------------

const USAGE = `usage: node client.js METHOD URL --user-id U --email E --master-key REF [options] < payload.json
  --jwt-secret REF   sign a token with this secret         --role R        a role in that token; repeatable
  --token REF        send this token                       --permission P  a permission in it; repeatable
  --api-key REF      send \`Authorization: ApiKey …\`        --ca FILE       trust this certificate
  --show             also print the sealed bodies, to standard error
  --insecure         accept any certificate: development only
REF is env:NAME or file:/path; a secret on the command line would be readable in the process list.`;

/** Reads a secret reference, as the gateway's own configuration has them. */
function secret(reference) {
  const [, kind, name] = /^(env|file):(.+)$/s.exec(reference) ?? [];
  if (kind === "file") return readFileSync(name, "utf8").replace(/\n$/, "");
  if (kind === "env" && process.env[name] !== undefined) return process.env[name];
  throw new Error(kind === "env" ? `${name} is not set in the environment` : "a secret is given as env:NAME or file:/path");
}

async function main() {
  const text = { type: "string" };
  const list = { type: "string", multiple: true, default: [] };
  const flag = { type: "boolean", default: false };
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      "user-id": text, email: text, "master-key": text, "jwt-secret": text, token: text, "api-key": text,
      role: list, permission: list, ca: text, show: flag, insecure: flag,
    },
  });
  const [method, target] = positionals;
  if (target === undefined || !values["user-id"] || !values.email || !values["master-key"]) throw new Error(USAGE);

  const identity = { userId: values["user-id"], email: values.email, roles: values.role, permissions: values.permission };
  let authorization;
  if (values["jwt-secret"]) authorization = `Bearer ${issueToken(identity, secret(values["jwt-secret"]))}`;
  if (values.token) authorization = `Bearer ${secret(values.token)}`;
  if (values["api-key"]) authorization = `ApiKey ${secret(values["api-key"])}`;

  const client = connect({
    url: target,
    ...identity,
    masterKey: secret(values["master-key"]),
    authorization,
    tls: { ...(values.ca && { ca: readFileSync(values.ca) }), ...(values.insecure && { rejectUnauthorized: false }) },
  });
  const bodiless = ["GET", "HEAD", "DELETE"].includes(method);
  const { status, sent, answer, payload } = await client.send(
    method,
    target,
    bodiless ? undefined : JSON.parse(readFileSync(0, "utf8")),
  );
  if (values.show) console.error(JSON.stringify({ sent, status, answer }, null, 2));
  process.stdout.write(`${typeof payload === "string" ? payload : JSON.stringify(payload)}\n`);
  if (status >= 400) process.exitCode = 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  main().catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
