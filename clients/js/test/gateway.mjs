// A gateway of this test's own, written with node:crypto from docs/strong-envelopes.md: what a real one never does (answer in
// clear, replay, change a status), this one can. It knows `hpke` over P-256, `aes128gcm` and key delivery.

import {
  createCipheriv, createDecipheriv, createHash, createHmac, diffieHellman, generateKeyPairSync, createPublicKey, hkdfSync, randomBytes,
} from "node:crypto";
import { createServer } from "node:http";

const JSON_TYPE = "application/json";
const b64 = (bytes) => Buffer.from(bytes).toString("base64url");
const unb64 = (text) => Buffer.from(text, "base64url");
const int = (value, length) => Buffer.from(BigInt(value).toString(16).padStart(2 * length, "0"), "hex");
const mac = (key, ...data) => createHmac("sha256", key).update(Buffer.concat(data.map((part) => Buffer.from(part)))).digest();
const expand = (prk, info, length) => mac(prk, info, "\x01").subarray(0, length);
const fields = (...texts) => Buffer.concat(texts.flatMap((text) => [int(Buffer.byteLength(text), 4), Buffer.from(text)]));
const context = (direction, profile, c, ...more) =>
  fields("gapura context v1", direction, profile, c.kid, c.method, c.authority, c.path, c.query, c.subject, c.tokenId, String(c.iat), c.id, c.type, "", ...more);

function gcm(bits, key, nonce, aad, plaintext) {
  const cipher = createCipheriv(`aes-${bits}-gcm`, key, nonce).setAAD(aad);
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

function ungcm(bits, key, nonce, aad, sealed) {
  const cipher = createDecipheriv(`aes-${bits}-gcm`, key, nonce).setAAD(aad).setAuthTag(sealed.subarray(-16));
  return Buffer.concat([cipher.update(sealed.subarray(0, -16)), cipher.final()]);
}

const rawOf = (key) => {
  const { x, y } = key.export({ format: "jwk" });
  return Buffer.concat([int(4, 1), unb64(x), unb64(y)]);
};

const publicOf = (raw) =>
  createPublicKey({ format: "jwk", key: { kty: "EC", crv: "P-256", x: b64(raw.subarray(1, 33)), y: b64(raw.subarray(33)) } });

class Message {
  constructor(bytes) {
    this.bytes = bytes;
  }
  take(length) {
    const taken = this.bytes.subarray(0, length);
    this.bytes = this.bytes.subarray(length);
    return taken;
  }
  number(length) {
    return Number(`0x${this.take(length).toString("hex")}`);
  }
}

/** Opens a request; gives its plaintext, its type, its id, and what seals the response. */
function openHpke(message, place, keys) {
  const read = new Message(message);
  if (read.number(1) !== 1) throw new Error("version");
  const c = { ...place, kid: read.take(read.number(1)).toString() };
  const suite = read.take(6);
  c.iat = read.number(8);
  c.id = b64(read.take(16));
  c.type = read.take(read.number(1)).toString();
  const header = message.subarray(0, message.length - read.bytes.length);
  const enc = read.take(65);
  const { privateKey, publicKey } = keys[c.kid];
  const dh = diffieHellman({ privateKey, publicKey: publicOf(enc) });
  const labeled = (suite) => ({
    extract: (salt, label, ikm) => mac(salt, "HPKE-v1", suite, label, ikm),
    expand: (prk, label, info, length) => expand(prk, Buffer.concat([int(length, 2), Buffer.from("HPKE-v1"), suite, Buffer.from(label), info]), length),
  });
  const kem = labeled(Buffer.concat([Buffer.from("KEM"), suite.subarray(0, 2)]));
  const shared = kem.expand(kem.extract("", "eae_prk", dh), "shared_secret", Buffer.concat([enc, rawOf(publicKey)]), 32);
  const hpke = labeled(Buffer.concat([Buffer.from("HPKE"), suite]));
  const info = Buffer.concat([Buffer.from("gapura hpke v1\0"), header]);
  const schedule = Buffer.concat([int(0, 1), hpke.extract("", "psk_id_hash", ""), hpke.extract("", "info_hash", info)]);
  const secret = hpke.extract(shared, "secret", "");
  const key = hpke.expand(secret, "key", schedule, 32);
  const plaintext = ungcm(256, key, hpke.expand(secret, "base_nonce", schedule, 12), context("request", "hpke", c), read.bytes);
  const exported = hpke.expand(hpke.expand(secret, "exp", schedule, 32), "sec", Buffer.from("gapura hpke response v1"), 32);
  const seal = (text, status) => {
    const nonce = randomBytes(32);
    const own = { ...c, iat: Date.now(), id: b64(randomBytes(16)), type: JSON_TYPE };
    const prk = mac(Buffer.concat([enc, nonce]), exported);
    const aad = context("response", "hpke", own, String(status), c.id);
    const ct = gcm(256, expand(prk, "key", 32), expand(prk, "nonce", 12), aad, text);
    const head = [int(1, 1), int(own.iat, 8), unb64(own.id), int(JSON_TYPE.length, 1), Buffer.from(JSON_TYPE), nonce];
    return [Buffer.concat([...head, ct]), { "Content-Type": "application/vnd.gapura.hpke" }];
  };
  return { plaintext, type: c.type, id: c.id, seal };
}

const sessionKey = (secret, kid, subject, tokenId) =>
  Buffer.from(hkdfSync("sha256", secret, "", fields("gapura session key v2", kid, "jwt.users", subject, tokenId), 32));

function openAes128gcm(message, place, secret, type) {
  const crypt = (c, salt, direction, ...more) => {
    const info = Buffer.concat([Buffer.from("gapura aes128gcm v1\0"), context(direction, "aes128gcm", c, ...more)]);
    const session = sessionKey(secret, c.kid, c.subject, c.tokenId);
    const prk = mac(salt, Buffer.from(hkdfSync("sha256", session, "", info, 32)));
    return [expand(prk, "Content-Encoding: aes128gcm\0", 16), expand(prk, "Content-Encoding: nonce\0", 12), ""];
  };
  const read = new Message(message);
  const salt = read.take(16);
  read.take(4);
  const [kid, iat, id] = read.take(read.number(1)).toString().split("~");
  const c = { ...place, kid, iat, id, type };
  const padded = ungcm(128, ...crypt(c, salt, "request"), read.bytes);
  if (padded.at(-1) !== 2) throw new Error("one record is enough for this test");
  const seal = (text, status) => {
    const own = { ...c, iat: Date.now(), id: b64(randomBytes(16)), type: JSON_TYPE };
    const keyid = `${kid}~${own.iat}~${own.id}`;
    const salt = randomBytes(16);
    const record = gcm(128, ...crypt(own, salt, "response", String(status), id), `${text}\x02`);
    const body = Buffer.concat([salt, int(65536, 4), int(keyid.length, 1), Buffer.from(keyid), record]);
    return [body, { "Content-Type": JSON_TYPE, "Content-Encoding": "aes128gcm" }];
  };
  return { plaintext: padded.subarray(0, -1), type, id, seal };
}

function sealTo({ kty, crv, x, y }, value) {
  const own = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const z = diffieHellman({ privateKey: own.privateKey, publicKey: createPublicKey({ format: "jwk", key: { kty, crv, x, y } }) });
  const cek = createHash("sha256").update(Buffer.concat([int(1, 4), z, int(7, 4), Buffer.from("A256GCM"), int(0, 8), int(256, 4)])).digest();
  const header = b64(JSON.stringify({ alg: "ECDH-ES", enc: "A256GCM", epk: own.publicKey.export({ format: "jwk" }) }));
  const iv = randomBytes(12);
  const sealed = gcm(256, cek, iv, Buffer.from(header), JSON.stringify(value));
  return [header, "", b64(iv), b64(sealed.subarray(0, -16)), b64(sealed.subarray(-16))].join(".");
}

/**
 * Starts one. `gateway.seen` are the requests for the service, `gateway.wire` all that came in; `gateway.answer(response, opened)`
 * may give `{ status, text }` to be sealed, or write the response itself and give nothing.
 */
export async function startGateway() {
  const secret = randomBytes(32);
  const gateway = {
    keys: {}, seen: [], wire: [], asked: { keys: 0, session: 0 }, lifetime: 900, maxAge: 300,
    caller: { subject: "u-1", tokenId: "t-1" }, path: undefined,
    rotate(id) {
      gateway.keys = { [`bodies.${id}`]: generateKeyPairSync("ec", { namedCurve: "P-256" }) };
    },
    keySet: () => ({
      keys: Object.entries(gateway.keys).map(([kid, { publicKey }]) => ({
        ...publicKey.export({ format: "jwk" }), kid, use: "enc", encryption: { payments: ["hpke"] },
      })),
    }),
    problem(response, status, code, headers = {}) {
      const type = `urn:gapura:problem:${code.toLowerCase().replaceAll("_", "-")}`;
      response.writeHead(status, { "Content-Type": "application/problem+json", "X-Request-Id": "r-1", ...headers });
      response.end(JSON.stringify({ type, title: code, status, detail: "no", code, request_id: "r-1" }));
    },
    answer: (_, { plaintext }) => ({ status: 201, text: JSON.stringify({ echo: plaintext.toString() }) }),
  };
  gateway.rotate("1");

  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray());
    gateway.wire.push(Buffer.concat([Buffer.from(request.url + JSON.stringify(request.headers)), body]).toString("latin1"));
    const url = new URL(request.url, "http://gateway");
    if (url.pathname === "/.well-known/gapura/keys") {
      gateway.asked.keys++;
      response.writeHead(200, { "Content-Type": JSON_TYPE, "Cache-Control": `public, max-age=${gateway.maxAge}` });
      return response.end(JSON.stringify(gateway.keySet()));
    }
    if (url.pathname === "/.well-known/gapura/session-key") {
      gateway.asked.session++;
      if (!request.headers.authorization) return gateway.problem(response, 401, "CREDENTIALS_MISSING");
      const expires = Math.floor(Date.now() / 1000) + gateway.lifetime;
      const kid = `sessions.1.${expires}`;
      const { subject, tokenId } = gateway.caller;
      const sealed = sealTo(JSON.parse(body).public_key, { session_key: b64(sessionKey(secret, kid, subject, tokenId)) });
      response.writeHead(200, { "Content-Type": JSON_TYPE, "Cache-Control": "no-store" });
      return response.end(JSON.stringify({ subject, token_id: tokenId, encryption: "payments", profiles: ["hpke", "aes128gcm"], expires, kid, sealed }));
    }
    const place = { method: request.method, authority: request.headers.host, path: gateway.path ?? url.pathname, query: url.search.slice(1), ...gateway.caller };
    let opened;
    try {
      const [, profile, header] = /^(\w+)=(.+)$/.exec(request.headers["x-gapura-envelope"] ?? "") ?? [];
      const message = header ? unb64(header) : body;
      const rfc8188 = profile === "aes128gcm" || request.headers["content-encoding"] === "aes128gcm";
      opened = rfc8188
        ? openAes128gcm(message, place, secret, header ? "" : request.headers["content-type"])
        : openHpke(message, place, gateway.keys);
    } catch {
      gateway.failed = (gateway.failed ?? 0) + 1;
      return gateway.problem(response, 400, "DECRYPTION_FAILED");
    }
    const seen = { ...place, headers: request.headers, body: opened.plaintext.toString(), type: opened.type, id: opened.id };
    gateway.seen.push(seen);
    const answer = gateway.answer(response, opened, seen);
    if (!answer) return;
    const [sealed, headers] = opened.seal(answer.text, answer.status);
    response.writeHead(answer.sentStatus ?? answer.status, { ...headers, ...answer.headers });
    response.end(request.method === "HEAD" ? undefined : (answer.change ?? ((bytes) => bytes))(sealed));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  gateway.url = `http://127.0.0.1:${server.address().port}`;
  gateway.stop = () => {
    server.close();
    server.closeAllConnections();
  };
  return gateway;
}
