// The primitives, all of them WebCrypto's.

import { type Bytes, concat, integer, utf8 } from "./bytes.js";

const subtle = crypto.subtle;
const bytes = (buffer: ArrayBuffer): Bytes => new Uint8Array(buffer);

export const sha256 = async (data: Bytes): Promise<Bytes> => bytes(await subtle.digest("SHA-256", data));

export async function hmac(key: Bytes, data: Bytes): Promise<Bytes> {
  // WebCrypto refuses an empty key. HMAC fills a short one up with zeros, so a zero byte is the same key.
  const raw = key.length ? key : new Uint8Array(1);
  const imported = await subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return bytes(await subtle.sign("HMAC", imported, data));
}

/** HKDF-Expand (RFC 5869) for up to 32 bytes: one block. */
export const expand = async (prk: Bytes, info: Bytes, length: number): Promise<Bytes> =>
  (await hmac(prk, concat(info, integer(1, 1)))).slice(0, length);

export const hkdf = async (salt: Bytes, ikm: Bytes, info: Bytes, length = 32): Promise<Bytes> =>
  expand(await hmac(salt, ikm), info, length);

export const NONE = new Uint8Array(0);

const gcmKey = (key: Bytes) => subtle.importKey("raw", key, "AES-GCM", false, ["encrypt", "decrypt"]);

export const gcmSeal = async (key: Bytes, iv: Bytes, additionalData: Bytes, plaintext: Bytes): Promise<Bytes> =>
  bytes(await subtle.encrypt({ name: "AES-GCM", iv, additionalData }, await gcmKey(key), plaintext));

export const gcmOpen = async (key: Bytes, iv: Bytes, additionalData: Bytes, sealed: Bytes): Promise<Bytes> =>
  bytes(await subtle.decrypt({ name: "AES-GCM", iv, additionalData }, await gcmKey(key), sealed));

const kwKey = (key: Bytes) => subtle.importKey("raw", key, "AES-KW", false, ["wrapKey", "unwrapKey"]);

/** RFC 3394. WebCrypto wraps keys, not bytes, so the bytes become a key on the way. */
export async function wrap(kek: Bytes, key: Bytes): Promise<Bytes> {
  const inner = await subtle.importKey("raw", key, "AES-GCM", true, ["encrypt"]);
  return bytes(await subtle.wrapKey("raw", inner, await kwKey(kek), "AES-KW"));
}

export async function unwrap(kek: Bytes, wrapped: Bytes): Promise<Bytes> {
  const inner = await subtle.unwrapKey("raw", wrapped, await kwKey(kek), "AES-KW", "AES-GCM", true, ["decrypt"]);
  return bytes(await subtle.exportKey("raw", inner));
}

// --- key agreement ------------------------------------------------------------------------------------------------

export type Curve = "P-256" | "X25519";

const AGREEMENT = { "P-256": { name: "ECDH", namedCurve: "P-256" }, X25519: { name: "X25519" } };

export interface KeyPair {
  curve: Curve;
  privateKey: CryptoKey;
  publicKey: CryptoKey;
}

export async function generate(curve: Curve): Promise<KeyPair> {
  const pair = (await subtle.generateKey(AGREEMENT[curve], false, ["deriveBits"])) as CryptoKeyPair;
  return { curve, ...pickKeys(pair) };
}

const pickKeys = ({ privateKey, publicKey }: CryptoKeyPair) => ({ privateKey, publicKey });

/** The public part of a JWK, and nothing else of it. A point off the curve is refused by WebCrypto. */
export async function importPublic({ kty, crv, x, y }: JsonWebKey): Promise<{ curve: Curve; key: CryptoKey }> {
  if (crv !== "P-256" && crv !== "X25519") throw new Error("a key of an unknown curve");
  const jwk: JsonWebKey = crv === "P-256" ? { kty: kty!, crv, x: x!, y: y! } : { kty: kty!, crv, x: x! };
  return { curve: crv, key: await subtle.importKey("jwk", jwk, AGREEMENT[crv], true, []) };
}

export const rawPublic = async (key: CryptoKey): Promise<Bytes> => bytes(await subtle.exportKey("raw", key));

/** The members in the order of RFC 7518 and RFC 8037, without `ext` and `key_ops`. */
export async function publicJwk(key: CryptoKey): Promise<JsonWebKey> {
  const { kty, crv, x, y } = await subtle.exportKey("jwk", key);
  return { kty, crv, x, ...(y && { y }) } as JsonWebKey;
}

export const agree = async ({ curve, privateKey }: KeyPair, key: CryptoKey): Promise<Bytes> =>
  bytes(await subtle.deriveBits({ name: AGREEMENT[curve].name, public: key }, privateKey, 256));

/** Whether this WebCrypto knows a curve: X25519 came to browsers only in 2025. */
export const supports = (curve: string): Promise<boolean> =>
  curve === "P-256" ? Promise.resolve(true) : curve !== "X25519" ? Promise.resolve(false) : (x25519 ??= probe());

let x25519: Promise<boolean> | undefined;
const probe = () => generate("X25519").then(() => true, () => false);

// --- randomness ---------------------------------------------------------------------------------------------------

/** Where random bytes and ephemeral keys come from. The tests pin both to hold messages byte for byte. */
export interface Entropy {
  bytes(length: number): Bytes;
  pair(curve: Curve): Promise<KeyPair>;
}

export const fresh: Entropy = { bytes: (length) => crypto.getRandomValues(new Uint8Array(length)), pair: generate };

export const label = (value: string): Bytes => utf8(`${value}\0`);
