// Profile `cryptojs`, the founding format, under the caller's own passphrase as the gateway delivers it: never the master
// key. With the MAC header a changed message is seen; without it the format cannot see that.

import { base64, base64url, type Bytes, concat, fields, hex, text, unbase64, unbase64url, utf8 } from "./bytes.js";
import type { Place } from "./context.js";
import { md5 } from "./md5.js";
import { type Entropy, fresh, hkdf, hmac, NONE, sha256 } from "./primitives.js";

export interface Passphrase {
  passphrase: string;
  keyHash: string;
}

interface Envelope {
  encryptedData: string;
  keyHash: string;
  timestamp: number;
  userId: string;
}

export async function sealCryptojs(
  { passphrase, keyHash }: Passphrase, userId: string, timestamp: number, plaintext: Bytes, entropy: Entropy = fresh,
): Promise<Envelope> {
  const salt = entropy.bytes(8);
  const { key, iv } = await derive(passphrase, salt);
  const sealed = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-CBC", iv }, key, plaintext));
  return { encryptedData: base64(concat(SALTED, salt, sealed)), keyHash, timestamp, userId };
}

/** Opens an envelope, bare or wrapped as `{"success":…,"data":…}`. */
export async function openCryptojs({ passphrase, keyHash }: Passphrase, answer: unknown): Promise<Bytes> {
  const envelope = ((answer as { data?: unknown })?.data ?? answer) as Envelope;
  if (envelope?.keyHash !== keyHash) throw new Error("sealed under another key");
  const data = unbase64(envelope.encryptedData);
  if (text(data.slice(0, 8)) !== "Salted__") throw new Error("not salted");
  const { key, iv } = await derive(passphrase, data.slice(8, 16));
  return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-CBC", iv }, key, data.slice(16)));
}

const SALTED = utf8("Salted__");

/** EVP_BytesToKey with MD5 and one round. */
async function derive(passphrase: string, salt: Bytes): Promise<{ key: CryptoKey; iv: Bytes }> {
  const blocks: Bytes[] = [];
  for (let last = NONE; blocks.length < 3; ) blocks.push((last = md5(concat(last, utf8(passphrase), salt))));
  const material = concat(...blocks);
  const key = await crypto.subtle.importKey("raw", material.slice(0, 32), "AES-CBC", false, ["encrypt", "decrypt"]);
  return { key, iv: material.slice(32) };
}

// --- the MAC header ---------------------------------------------------------------------------------------------------

export const MAC_HEADER = "X-Gapura-Mac";

export interface Mac {
  n: string;
  header: string;
  /** Throws unless `header` is the response's own over `body`. */
  verify(header: string | null, body: Bytes, status: number): Promise<void>;
}

export async function authenticate(
  { passphrase, keyHash }: Passphrase, place: Place, ts: number, body: Bytes, entropy: Entropy = fresh,
): Promise<Mac> {
  const kid = keyHash.slice(0, 16);
  const key = await hkdf(NONE, utf8(passphrase), utf8("gapura mac v1"));
  const mac = async (direction: string, ts: string, n: string, body: Bytes, ...more: string[]) => {
    const { method, authority, path, query, subject } = place;
    const digest = hex(await sha256(body));
    return hmac(key, fields("gapura mac v1", direction, kid, method, authority, path, query, subject, ts, n, digest, ...more));
  };
  const n = base64url(entropy.bytes(16));
  return {
    n,
    header: `v=1;kid=${kid};ts=${ts};n=${n};mac=${base64url(await mac("request", String(ts), n, body))}`,
    async verify(header, body, status) {
      const read = /^v=1;kid=([0-9a-f]{16});ts=(\d{1,16});n=([\w-]{22});mac=([\w-]{43})$/.exec(header ?? "");
      if (read?.[1] !== kid) throw new Error(`no ${MAC_HEADER} of this key`);
      const expected = await mac("response", read[2]!, read[3]!, body, String(status), n);
      if (!equal(unbase64url(read[4]!), expected)) throw new Error("the MAC is another");
    },
  };
}

const equal = (a: Bytes, b: Bytes): boolean => a.length === b.length && a.reduce((or, byte, at) => or | (byte ^ b[at]!), 0) === 0;
