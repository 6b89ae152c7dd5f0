// The client against an independent reading of the format: node:crypto instead of crypto-js.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import crypto from "node:crypto";
import { createServer } from "node:http";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import jwt from "jsonwebtoken";
import { connect, derivePassphrase, issueToken, keyHash, open, seal } from "./client.js";

const ALICE = { userId: "u-1001", email: "alice@example.com", masterKey: "a master key for tests only" };
const passphrase = derivePassphrase(ALICE);

const sha256 = (text) => crypto.createHash("sha256").update(text, "utf8").digest("hex");

/** OpenSSL's EVP_BytesToKey with MD5 and one round: 32 bytes of key, then 16 of IV. */
function keyAndIv(passphrase, salt) {
  let block = Buffer.alloc(0);
  let derived = Buffer.alloc(0);
  while (derived.length < 48) {
    block = crypto.createHash("md5").update(block).update(passphrase, "utf8").update(salt).digest();
    derived = Buffer.concat([derived, block]);
  }
  return [derived.subarray(0, 32), derived.subarray(32, 48)];
}

function decrypt(encryptedData, passphrase) {
  const raw = Buffer.from(encryptedData, "base64");
  assert.equal(raw.subarray(0, 8).toString("latin1"), "Salted__");
  const decipher = crypto.createDecipheriv("aes-256-cbc", ...keyAndIv(passphrase, raw.subarray(8, 16)));
  return Buffer.concat([decipher.update(raw.subarray(16)), decipher.final()]).toString("utf8");
}

function encrypt(plaintext, passphrase) {
  const salt = crypto.randomBytes(8);
  const cipher = crypto.createCipheriv("aes-256-cbc", ...keyAndIv(passphrase, salt));
  return Buffer.concat([Buffer.from("Salted__"), salt, cipher.update(plaintext, "utf8"), cipher.final()]).toString("base64");
}

test("passphrase and key hash are the two SHA-256 of the format", () => {
  assert.equal(passphrase, sha256("u-1001_alice@example.com_a master key for tests only"));
  assert.equal(keyHash(passphrase), sha256(passphrase));
});

test("a sealed payload is JSON.stringify, salted anew each time", () => {
  const payload = { amount: 1999, note: "für Ağaoğlu 🧾", nested: { list: [1, null, true] } };
  const [first, second] = [seal(payload, { ...ALICE, passphrase }), seal(payload, { ...ALICE, passphrase })];
  assert.deepEqual(Object.keys(first), ["encryptedData", "keyHash", "timestamp", "userId"]);
  assert.equal(decrypt(first.encryptedData, passphrase), JSON.stringify(payload));
  assert.notEqual(first.encryptedData, second.encryptedData);
  assert.ok(Math.abs(first.timestamp - Date.now()) < 5000);
});

test("an answer opens wrapped and bare, and only under its own key", () => {
  const envelope = { encryptedData: encrypt('{"id":"pay_1"}', passphrase), keyHash: keyHash(passphrase), userId: "u-1001" };
  assert.deepEqual(open(envelope, { passphrase }), { id: "pay_1" });
  assert.deepEqual(open({ success: true, data: envelope }, { passphrase }), { id: "pay_1" });
  assert.throws(() => open(envelope, { passphrase: derivePassphrase({ ...ALICE, userId: "u-1002" }) }), /another key/);
});

test("a token carries the caller and an end", () => {
  const claims = jwt.verify(issueToken({ ...ALICE, roles: ["customer"] }, "secret"), "secret", { algorithms: ["HS256"] });
  assert.equal(claims.sub, "u-1001");
  assert.deepEqual(claims.roles, ["customer"]);
  assert.equal(claims.exp - claims.iat, 300);
  assert.ok(!("masterKey" in claims));
});

/** A server that reads an envelope and answers with one, as the gateway does; `/problem` refuses in plain JSON. */
async function withServer(use) {
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray()).toString("utf8");
    if (request.url === "/problem") {
      response.writeHead(401, { "Content-Type": "application/problem+json" });
      response.end('{"code":"CREDENTIALS_INVALID","status":401}');
      return;
    }
    if (request.method === "DELETE") {
      response.writeHead(204).end();
      return;
    }
    const inside = decrypt(JSON.parse(body).encryptedData, passphrase);
    const answer = JSON.stringify({ authorization: request.headers.authorization, received: JSON.parse(inside) });
    const data = { encryptedData: encrypt(answer, passphrase), keyHash: keyHash(passphrase), timestamp: 1, userId: "u-1001" };
    response.writeHead(201, { "Content-Type": "application/json" });
    response.end(JSON.stringify({ success: true, data }));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use(`http://127.0.0.1:${server.address().port}`);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

test("an exchange seals the request and opens the answer; a problem stays as it is", () =>
  withServer(async (url) => {
    const client = connect({ url, ...ALICE, authorization: "Bearer t" });
    const created = await client.send("POST", "/payments", { amount: 1 });
    assert.equal(created.status, 201);
    assert.deepEqual(created.payload, { authorization: "Bearer t", received: { amount: 1 } });

    const refused = await client.send("POST", "/problem", {});
    assert.equal(refused.status, 401);
    assert.equal(refused.payload.code, "CREDENTIALS_INVALID");

    const cancelled = await client.send("DELETE", "/payments/1");
    assert.equal(cancelled.status, 204);
    assert.equal(cancelled.payload, "");
  }));

test("the command line opens the answer and says by its exit code how it went", () =>
  withServer(async (url) => {
    const run = (path, payload) => {
      const script = fileURLToPath(new URL("client.js", import.meta.url));
      const options = ["--user-id", ALICE.userId, "--email", ALICE.email, "--master-key", "env:MASTER_KEY"];
      const running = promisify(execFile)(process.execPath, [script, "POST", url + path, ...options, "--token", "env:TOKEN"], {
        env: { ...process.env, MASTER_KEY: ALICE.masterKey, TOKEN: "t" },
      });
      running.child.stdin.end(payload);
      return running;
    };
    const { stdout } = await run("/payments", '{"amount":7}');
    assert.deepEqual(JSON.parse(stdout), { authorization: "Bearer t", received: { amount: 7 } });
    await assert.rejects(run("/problem", "{}"), (error) => error.code === 1 && error.stdout.includes("CREDENTIALS_INVALID"));
  }));
