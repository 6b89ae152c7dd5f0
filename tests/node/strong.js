// A client of the profiles `hpke` and `aes128gcm`, from the words of the format and two libraries of others. Byte strings travel
// in base64url.

import { createHmac, randomBytes } from "node:crypto";
import { Aes256Gcm, CipherSuite, DhkemP256HkdfSha256, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import ece from "http_ece";

const text = (bytes) => Buffer.from(bytes).toString("base64url");
const bytes = (text) => Buffer.from(text, "base64url");
export const hmac = (key, ...parts) => parts.reduce((mac, part) => mac.update(part), createHmac("sha256", key)).digest();
export const expand = (prk, info, length) => hmac(prk, info, Buffer.from([1])).subarray(0, length);
const number = (value, length) => {
  const out = Buffer.alloc(length);
  out.writeBigUInt64BE(BigInt(value), length - 8);
  return out;
};

/** Each field behind four bytes of its length. */
const fields = (...list) =>
  Buffer.concat(list.flatMap((field) => [number(Buffer.byteLength(field), 8).subarray(4), Buffer.from(field)]));

export const context = (direction, profile, { request, kid, iat, id, contentType }, ...more) =>
  fields(
    "gapura context v1", direction, profile, kid, request.method, request.authority, request.path, request.query ?? "",
    request.subject, request.tokenId ?? "", String(iat), text(id), contentType, request.part ?? "", ...more,
  );

const suite = (kem) =>
  new CipherSuite({
    kem: kem === "p256" ? new DhkemP256HkdfSha256() : new DhkemX25519HkdfSha256(),
    kdf: new HkdfSha256(),
    aead: new Aes256Gcm(),
  });

const short = (value) => Buffer.concat([Buffer.from([Buffer.byteLength(value)]), Buffer.from(value)]);

/** Requests whose responses may still come. */
const sent = new Map();
const keep = (entry) => {
  const handle = String(sent.size);
  sent.set(handle, entry);
  return handle;
};

export const operations = {
  async hpkeSeal({ publicKey, kem, kid, iat, contentType, content, request }) {
    const id = randomBytes(16);
    const kemId = kem === "p256" ? 0x10 : 0x20;
    const header = Buffer.concat([
      Buffer.from([1]), short(kid), Buffer.from([0, kemId, 0, 1, 0, 2]), number(iat, 8), id, short(contentType),
    ]);
    const hpke = suite(kem);
    const recipientPublicKey = await hpke.kem.deserializePublicKey(bytes(publicKey));
    const sender = await hpke.createSenderContext({
      recipientPublicKey,
      info: Buffer.concat([Buffer.from("gapura hpke v1\0"), header]),
    });
    const aad = context("request", "hpke", { request, kid, iat, id, contentType });
    const ct = await sender.seal(Buffer.from(content), aad);
    const enc = Buffer.from(sender.enc);
    const secret = Buffer.from(await sender.export(Buffer.from("gapura hpke response v1"), 32));
    return JSON.stringify({ message: text(Buffer.concat([header, enc, Buffer.from(ct)])), handle: keep({ kid, id, enc, secret, request }) });
  },

  async hpkeOpen({ handle, message, status }) {
    const { kid, id, enc, secret, request } = sent.get(handle);
    const response = bytes(message);
    if (response[0] !== 1) throw new Error("another version");
    const iat = response.readBigUInt64BE(1);
    const own = response.subarray(9, 25);
    const contentType = response.subarray(26, 26 + response[25]).toString();
    const rest = response.subarray(26 + response[25]);
    const prk = hmac(Buffer.concat([enc, rest.subarray(0, 32)]), secret);
    const key = await crypto.subtle.importKey("raw", expand(prk, "key", 32), "AES-GCM", false, ["decrypt"]);
    const aad = context("response", "hpke", { request, kid, iat, id: own, contentType }, String(status), text(id));
    const iv = expand(prk, "nonce", 12);
    const content = await crypto.subtle.decrypt({ name: "AES-GCM", iv, additionalData: aad }, key, rest.subarray(32));
    return JSON.stringify({ content: Buffer.from(content).toString(), contentType });
  },

  eceSeal({ sessionKey, kid, iat, contentType, content, request, rs }) {
    const id = randomBytes(16);
    const keyid = `${kid}~${iat}~${text(id)}`;
    const key = eceKey(sessionKey, context("request", "aes128gcm", { request, kid, iat, id, contentType }));
    const params = { version: "aes128gcm", keyid, keymap: { [keyid]: key }, rs: rs ?? 65536 };
    const message = text(ece.encrypt(Buffer.from(content), params));
    return JSON.stringify({ message, handle: keep({ sessionKey, kid, id, request }) });
  },

  eceOpen({ handle, message, status, contentType }) {
    const { sessionKey, kid, id, request } = sent.get(handle);
    const lookup = (keyid) => {
      const [named, iat, own] = keyid.toString().split("~");
      if (named !== kid) throw new Error("another key");
      const parts = { request, kid, iat, id: bytes(own), contentType };
      return eceKey(sessionKey, context("response", "aes128gcm", parts, String(status), text(id)));
    };
    return ece.decrypt(bytes(message), { version: "aes128gcm" }, lookup).toString();
  },
};

export const eceKey = (sessionKey, context) =>
  expand(hmac(Buffer.alloc(32), bytes(sessionKey)), Buffer.concat([Buffer.from("gapura aes128gcm v1\0"), context]), 32);
