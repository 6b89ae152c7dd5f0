// Profile `hpke`: RFC 9180 in base mode, the response under a key exported from the request (as RFC 9458, section 4.4).
// AEAD is AES-256-GCM: the one of the two that WebCrypto has.

import { base64url, type Bytes, concat, integer, Reader, text, unbase64url, utf8 } from "./bytes.js";
import { type Context, contextBytes, type Sealed } from "./context.js";
import {
  agree, type Curve, type Entropy, expand, fresh, gcmOpen, gcmSeal, hmac, importPublic, label, NONE, rawPublic,
} from "./primitives.js";

const KEM: Record<Curve, number> = { "P-256": 0x0010, X25519: 0x0020 };
const HKDF_SHA256 = integer(1, 2);
const AES_256_GCM = integer(2, 2);
const VERSION = integer(1, 1);

const withLength = (value: string): Bytes => {
  const bytes = utf8(value);
  if (bytes.length > 255) throw new Error("a kid or content type over 255 bytes");
  return concat(integer(bytes.length, 1), bytes);
};

export async function sealHpke(c: Context, recipient: JsonWebKey, plaintext: Bytes, entropy: Entropy = fresh): Promise<Sealed> {
  const { curve, key } = await importPublic(recipient);
  const kem = integer(KEM[curve], 2);
  const header = concat(
    VERSION, withLength(c.kid), kem, HKDF_SHA256, AES_256_GCM, integer(c.iat, 8), unbase64url(c.id), withLength(c.contentType),
  );
  const ephemeral = await entropy.pair(curve);
  const enc = await rawPublic(ephemeral.publicKey);
  const shared = await sharedSecret(kem, await agree(ephemeral, key), concat(enc, await rawPublic(key)));
  const keys = await schedule(concat(utf8("HPKE"), kem, HKDF_SHA256, AES_256_GCM), shared, concat(label("gapura hpke v1"), header));
  const sealed = await gcmSeal(keys.key, keys.nonce, contextBytes(c), plaintext);

  return {
    id: c.id,
    message: concat(header, enc, sealed),
    async open(message, status, part) {
      const read = new Reader(message);
      if (read.integer(1) !== 1) throw new Error("a response of another version");
      const iat = read.integer(8);
      const id = base64url(read.take(16));
      const contentType = text(read.take(read.integer(1)));
      const prk = await hmac(concat(enc, read.take(32)), keys.response);
      const context = contextBytes({ ...c, iat, id, contentType, part }, { status, requestId: c.id });
      const [aeadKey, nonce] = [await expand(prk, utf8("key"), 32), await expand(prk, utf8("nonce"), 12)];
      return { contentType, plaintext: await gcmOpen(aeadKey, nonce, context, read.rest()) };
    },
  };
}

// --- RFC 9180, sections 4 and 5 --------------------------------------------------------------------------------------

const extract = (suite: Bytes, salt: Bytes, name: string, ikm: Bytes) => hmac(salt, concat(utf8("HPKE-v1"), suite, utf8(name), ikm));

const expandLabeled = (suite: Bytes, prk: Bytes, name: string, info: Bytes, length: number) =>
  expand(prk, concat(integer(length, 2), utf8("HPKE-v1"), suite, utf8(name), info), length);

async function sharedSecret(kem: Bytes, dh: Bytes, kemContext: Bytes): Promise<Bytes> {
  const suite = concat(utf8("KEM"), kem);
  return expandLabeled(suite, await extract(suite, NONE, "eae_prk", dh), "shared_secret", kemContext, 32);
}

async function schedule(suite: Bytes, shared: Bytes, info: Bytes) {
  const hashes = [await extract(suite, NONE, "psk_id_hash", NONE), await extract(suite, NONE, "info_hash", info)];
  const context = concat(integer(0, 1), ...hashes);
  const secret = await extract(suite, shared, "secret", NONE);
  const exporter = await expandLabeled(suite, secret, "exp", context, 32);
  return {
    key: await expandLabeled(suite, secret, "key", context, 32),
    nonce: await expandLabeled(suite, secret, "base_nonce", context, 12),
    response: await expandLabeled(suite, exporter, "sec", utf8("gapura hpke response v1"), 32),
  };
}
