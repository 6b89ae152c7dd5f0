// Every envelope byte for byte against tests/vectors/envelopes, which a script in Python wrote.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { sealAes128gcm } from "../dist/aes128gcm.js";
import { base64url, fields, hex, text, unbase64url, utf8 } from "../dist/bytes.js";
import { contextBytes } from "../dist/context.js";
import { authenticate, openCryptojs, sealCryptojs } from "../dist/cryptojs.js";
import { sealHpke } from "../dist/hpke.js";
import { openCompact, sealJwe } from "../dist/jwe.js";
import { locate, replaceSpans } from "../dist/members.js";
import { hkdf, NONE } from "../dist/primitives.js";

const vectors = (name) => {
  const cases = JSON.parse(readFileSync(new URL(`../../../tests/vectors/envelopes/${name}.json`, import.meta.url)));
  assert.ok(cases.length > 0);
  return cases;
};
const unhex = (digits) => Uint8Array.from(Buffer.from(digits, "hex"));
const contextOf = ({ profile, kid, method, authority, path, query, subject, token_id, iat, id, content_type, part }) => ({
  profile, kid, method, authority, path, query, subject, tokenId: token_id, iat, id, contentType: content_type, part,
});
const answeringOf = ({ status, request_id }) => (status === undefined ? undefined : { status, requestId: request_id });

/** The key pair of a private JWK. */
async function pairOf({ d, ...jwk }) {
  const algorithm = jwk.crv === "P-256" ? { name: "ECDH", namedCurve: "P-256" } : { name: "X25519" };
  const load = (jwk, uses) => crypto.subtle.importKey("jwk", jwk, algorithm, true, uses);
  return { curve: jwk.crv, privateKey: await load({ ...jwk, d }, ["deriveBits"]), publicKey: await load(jwk, []) };
}

/** Gives these keys and bytes, in this order. */
const pinned = (pairs, bytes) => ({ pair: async () => pairs.shift(), bytes: () => bytes.shift() });

/** A response opens, and with any bit of it, or of what it is bound to, changed, it does not. */
async function opensOnlyAsItIs(sealed, { message, plaintext, status, part, content_type }, bytes = unbase64url(message)) {
  const opened = await sealed.open(bytes, status, part, content_type);
  assert.deepEqual([text(opened.plaintext), opened.contentType], [plaintext, content_type]);
  for (let at = 0; at < bytes.length; at += 7) {
    const changed = Uint8Array.from(bytes);
    changed[at] ^= 1;
    await assert.rejects(sealed.open(changed, status, part, content_type), `byte ${at}`);
  }
  await assert.rejects(sealed.open(bytes.slice(0, -1), status, part, content_type));
  await assert.rejects(sealed.open(bytes, status + 1, part, content_type));
  await assert.rejects(sealed.open(bytes, status, `${part}/x`, content_type));
}

test("fields", () => {
  for (const vector of vectors("fields")) assert.equal(hex(fields(...vector.fields)), vector.hex);
});

test("contexts", () => {
  for (const vector of vectors("contexts")) {
    assert.equal(hex(contextBytes(contextOf(vector), answeringOf(vector))), vector.context_hex);
  }
});

test("session keys", async () => {
  for (const { secret, kid, method, subject, token_id, session_key } of vectors("session-keys")) {
    const info = fields("gapura session key v2", kid, method, subject, token_id);
    assert.equal(base64url(await hkdf(NONE, unbase64url(secret), info)), session_key);
  }
});

describe("hpke", () => {
  for (const { name, recipient, ephemeral, aead, request, response } of vectors("hpke")) {
    if (aead !== 2) continue; // ChaCha20-Poly1305: WebCrypto does not have it, and this client never asks for it
    test(name, async () => {
      const entropy = pinned([await pairOf(ephemeral)], []);
      const sealed = await sealHpke(contextOf(request), recipient.public, utf8(request.plaintext), entropy);
      assert.equal(base64url(sealed.message), request.message);
      await opensOnlyAsItIs(sealed, response);
    });
  }
});

describe("jwe", () => {
  for (const { name, recipient, ephemeral, reply, session_key, request, response } of vectors("jwe")) {
    test(name, async () => {
      const key = recipient ? { recipient: recipient.public } : { sessionKey: unbase64url(session_key) };
      const entropy = recipient
        ? pinned([await pairOf(ephemeral), await pairOf(reply)], [unbase64url(request.iv)])
        : pinned([], [unbase64url(request.cek), unbase64url(request.iv)]);
      const sealed = await sealJwe(contextOf(request), key, utf8(request.plaintext), entropy);
      assert.equal(text(sealed.message), request.message);
      await opensOnlyAsItIs(sealed, response, utf8(response.message));
    });
  }
});

describe("aes128gcm", () => {
  for (const { name, session_key, request, response } of vectors("aes128gcm")) {
    test(name, async () => {
      const entropy = pinned([], [unbase64url(request.salt)]);
      const key = unbase64url(session_key);
      const sealed = await sealAes128gcm(contextOf(request), key, utf8(request.plaintext), entropy, request.record_size);
      assert.equal(base64url(sealed.message), request.message);
      await opensOnlyAsItIs(sealed, response);
      // Whole records taken off the end leave a message that was cut off.
      const whole = unbase64url(response.message);
      const head = 21 + response.keyid.length;
      for (let end = head; end < whole.length; end += response.record_size) {
        await assert.rejects(sealed.open(whole.slice(0, end), response.status, response.part, response.content_type));
      }
    });
  }
});

describe("cryptojs", () => {
  for (const vector of vectors("cryptojs-mac")) {
    const { passphrase, key_hash, method, authority, path, query, subject, request, response } = vector;
    const key = { passphrase, keyHash: key_hash };
    test(vector.name, async () => {
      const salt = pinned([], [unhex(request.salt_hex)]);
      const envelope = await sealCryptojs(key, subject, request.ts, utf8(request.plaintext), salt);
      assert.equal(JSON.stringify(envelope), request.body);
      const place = { method, authority, path, query, subject, tokenId: "" };
      const n = pinned([], [unbase64url(request.n)]);
      const mac = await authenticate(key, place, request.ts, utf8(request.body), n);
      assert.equal(mac.header, request.mac_header);

      await mac.verify(response.mac_header, utf8(response.body), response.status);
      assert.equal(text(await openCryptojs(key, JSON.parse(response.body))), response.plaintext);
      await assert.rejects(mac.verify(response.mac_header, utf8(`${response.body} `), response.status));
      await assert.rejects(mac.verify(response.mac_header, utf8(response.body), 200));
      await assert.rejects(mac.verify(request.mac_header, utf8(request.body), response.status), "its own request");
      await assert.rejects(mac.verify(null, utf8(response.body), response.status));
      await assert.rejects(openCryptojs({ ...key, keyHash: "0".repeat(64) }, JSON.parse(response.body)));
    });
  }
});

test("members stand where their values stood, and nothing else changes", async () => {
  const cases = ["hpke", "jwe", "aes128gcm"].flatMap(vectors);
  for (const vector of vectors("members")) {
    for (const side of ["request", "response"]) {
      const { message } = cases.find(({ name }) => name === vector.case)[side];
      const { clear, sealed } = vector[side];
      const replaced = await replaceSpans(clear, locate(clear, [vector.pointer, "/absent/x"]), async () => JSON.stringify(message));
      assert.equal(replaced, sealed);
    }
  }
});

test("a delivered session key", async () => {
  for (const { private: jwk, sealed, ...delivered } of vectors("delivery")) {
    const { plaintext } = await openCompact(sealed, await pairOf(jwk));
    assert.deepEqual(JSON.parse(text(plaintext)), delivered);
    await assert.rejects(openCompact(sealed.replace(/.$/, (last) => (last === "A" ? "Q" : "A")), await pairOf(jwk)));
  }
});
