// Profile `aes128gcm`: RFC 8188 under a key that is derived from the session key and the context, so that a message in
// another place has another key. Bodies are held whole.

import { type Bytes, concat, integer, Reader, text, utf8 } from "./bytes.js";
import { type Context, contextBytes, type Answering, type Sealed } from "./context.js";
import { type Entropy, expand, fresh, gcmOpen, gcmSeal, hkdf, hmac, label, NONE } from "./primitives.js";

const RECORD = 65_536;
const OVERHEAD = 17; // delimiter and tag

export async function sealAes128gcm(
  c: Context, sessionKey: Bytes, plaintext: Bytes, entropy: Entropy = fresh, recordSize = RECORD,
): Promise<Sealed> {
  const salt = entropy.bytes(16);
  const keyid = utf8(`${c.kid}~${c.iat}~${c.id}`);
  const cipher = await records(sessionKey, c, salt);
  const out = [salt, integer(recordSize, 4), integer(keyid.length, 1), keyid];
  const step = recordSize - OVERHEAD;
  for (let at = 0, number = 0; at < plaintext.length || number === 0; at += step, number++) {
    const last = at + step >= plaintext.length;
    const record = concat(plaintext.slice(at, at + step), integer(last ? 2 : 1, 1));
    out.push(await gcmSeal(cipher.key, cipher.nonce(number), NONE, record));
  }
  return {
    id: c.id,
    message: concat(...out),
    async open(message, status, part, contentType) {
      const read = new Reader(message);
      const theirSalt = read.take(16);
      const size = read.integer(4);
      const [kid, iat, id, ...more] = text(read.take(read.integer(1))).split("~");
      if (size < OVERHEAD + 1 || kid !== c.kid || !id || !/^\d{1,16}$/.test(iat!) || more.length) throw new Error("another key");
      const answering = { status, requestId: c.id };
      const theirs = await records(sessionKey, { ...c, iat: Number(iat), id, contentType, part }, theirSalt, answering);
      return { contentType, plaintext: await openRecords(theirs, size, read.rest()) };
    },
  };
}

interface Cipher {
  key: Bytes;
  nonce(number: number): Bytes;
}

async function records(sessionKey: Bytes, c: Context, salt: Bytes, answering?: Answering): Promise<Cipher> {
  const info = concat(label("gapura aes128gcm v1"), contextBytes(c, answering));
  const prk = await hmac(salt, await hkdf(NONE, sessionKey, info));
  const base = await expand(prk, label("Content-Encoding: nonce"), 12);
  return {
    key: await expand(prk, label("Content-Encoding: aes128gcm"), 16),
    nonce(number) {
      const counter = integer(number, 12);
      return base.map((byte, at) => byte ^ counter[at]!);
    },
  };
}

/** A message that ends without a record that says it is the last was cut off. */
async function openRecords({ key, nonce }: Cipher, size: number, sealed: Bytes): Promise<Bytes> {
  const out: Bytes[] = [];
  let last = false;
  for (let at = 0, number = 0; at < sealed.length; at += size, number++) {
    if (last) throw new Error("bytes after the last record");
    const record = await gcmOpen(key, nonce(number), NONE, sealed.slice(at, at + size));
    const end = record.findLastIndex((byte) => byte !== 0);
    const delimiter = record[end];
    last = delimiter === 2;
    if (delimiter !== 1 && !last) throw new Error("a record without delimiter");
    out.push(record.slice(0, end));
  }
  if (!last) throw new Error("the message is cut short");
  return concat(...out);
}

