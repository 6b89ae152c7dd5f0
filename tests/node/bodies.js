// A backend that records of every request whether its body came to an end, and what it was. `POST /echo` sends it back as it comes;
// `GET /seen` tells. It is also a client whose bodies are large: see `client` below.

import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";
import http from "node:http";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { context, eceKey, expand, hmac } from "./strong.js";

const seen = [];
const server = http.createServer((request, response) => {
  if (request.url === "/seen") return response.end(JSON.stringify(seen));
  const record = { ended: false, closed: false, bytes: 0 };
  const hash = createHash("sha256");
  seen.push(record);
  request.on("data", (piece) => {
    record.bytes += piece.length;
    hash.update(piece);
  });
  request.on("end", () => Object.assign(record, { ended: request.complete, sha256: hash.digest("hex") }));
  request.on("close", () => (record.closed = true));
  request.on("error", () => {});
  if (request.url.endsWith("/echo")) {
    response.writeHead(200, { "Content-Type": "application/octet-stream" });
    request.pipe(response);
  } else {
    request.on("end", () => response.end(record.sha256));
  }
});
server.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));

const DELIMITER = 1;
const TAG = 16;

/** The cipher of RFC 8188: what record of this number is sealed or opened with. */
function records(key, salt) {
  const prk = hmac(salt, key);
  const [own, base] = [expand(prk, "Content-Encoding: aes128gcm\0", 16), expand(prk, "Content-Encoding: nonce\0", 12)];
  return (make, number) => {
    const nonce = Buffer.from(base);
    nonce.writeUInt32BE((base.readUInt32BE(8) ^ number) >>> 0, 8);
    return make("aes-128-gcm", own, nonce);
  };
}

/** Sends noise and compares what comes back: by the record, since http_ece joins what it has at each of them. */
async function client({ port, path, authority, authorization, sessionKey, kid, subject, size }) {
  const [id, salt, iat, contentType, rs] = [randomBytes(16), randomBytes(16), Date.now(), "application/octet-stream", 65536];
  const request = { method: "POST", authority, path, subject };
  const keyid = `${kid}~${iat}~${id.toString("base64url")}`;
  const cipher = records(eceKey(sessionKey, context("request", "aes128gcm", { request, kid, iat, id, contentType })), salt);
  const sent = createHash("sha256");
  function* message() {
    yield Buffer.concat([salt, Buffer.from([rs >> 24, rs >> 16, rs >> 8, rs, keyid.length]), Buffer.from(keyid)]);
    const step = rs - DELIMITER - TAG;
    const noise = randomBytes(step);
    for (let at = 0, number = 0; at < size; at += step, number++) {
      const content = noise.subarray(0, Math.min(step, size - at));
      content[number % content.length] ^= number;
      sent.update(content);
      const sealer = cipher(createCipheriv, number);
      yield Buffer.concat([sealer.update(content), sealer.update(Buffer.from([at + step < size ? 1 : 2])), sealer.final(), sealer.getAuthTag()]);
    }
  }
  const headers = { Host: authority, Authorization: authorization, "Content-Type": contentType, "Content-Encoding": "aes128gcm" };
  const call = http.request({ host: "127.0.0.1", port, path, method: "POST", headers });
  const answered = new Promise((resolve, reject) => call.on("response", resolve).on("error", reject));
  Readable.from(message()).pipe(call);
  const response = await answered;
  let [held, open, theirSize, number, last, received] = [Buffer.alloc(0), undefined, 0, 0, false, createHash("sha256")];
  const take = (record) => {
    const opener = open(createDecipheriv, number++).setAuthTag(record.subarray(-TAG));
    const plain = Buffer.concat([opener.update(record.subarray(0, -TAG)), opener.final()]);
    const end = plain.findLastIndex((byte) => byte !== 0);
    if (last || (plain[end] !== 1 && plain[end] !== 2)) throw new Error("a record that should not be there");
    last = plain[end] === 2;
    received.update(plain.subarray(0, end));
  };
  for await (const piece of response) {
    held = Buffer.concat([held, piece]);
    if (!open && held.length > 20 && held.length >= 21 + held[20]) {
      const [theirs, when, own] = held.subarray(21, 21 + held[20]).toString().split("~");
      const parts = { request, kid: theirs, iat: when, id: Buffer.from(own, "base64url"), contentType };
      const bound = context("response", "aes128gcm", parts, String(response.statusCode), id.toString("base64url"));
      [open, theirSize] = [records(eceKey(sessionKey, bound), held.subarray(0, 16)), held.readUInt32BE(16)];
      held = held.subarray(21 + held[20]);
    }
    for (; open && held.length > theirSize; held = held.subarray(theirSize)) take(held.subarray(0, theirSize));
  }
  take(held);
  return { status: response.statusCode, equal: last && received.digest("hex") === sent.digest("hex") };
}

createInterface({ input: process.stdin }).on("line", async (line) => {
  console.log(JSON.stringify(await client(JSON.parse(line)).catch((error) => ({ error: String(error) }))));
});
process.stdin.on("end", () => process.exit());
