// Envelopes and nested tokens as clients make them with jose; session keys as the gateway derives them, by Node's own HKDF.

import { generateKeyPairSync, hkdfSync } from "node:crypto";
import { CompactEncrypt, base64url, compactDecrypt, exportJWK, importJWK } from "jose";

const utf8 = new TextEncoder();

/** A key pair: PKCS #8 and SPKI in PEM for the gateway, JWKs for clients. */
export const keyPair = async ({ kind }) => {
  const [type, options] = { x25519: ["x25519", {}], p256: ["ec", { namedCurve: "P-256" }], rsa: ["rsa", { modulusLength: 2048 }] }[kind];
  const { publicKey, privateKey } = generateKeyPairSync(type, options);
  return JSON.stringify({
    pem: privateKey.export({ type: "pkcs8", format: "pem" }),
    publicPem: publicKey.export({ type: "spki", format: "pem" }),
    public: await exportJWK(publicKey),
    private: await exportJWK(privateKey),
  });
};

/** `key` is a JWK. */
export const jweEncrypt = async ({ text, header, key }) =>
  new CompactEncrypt(utf8.encode(text)).setProtectedHeader(header).encrypt(await importJWK(key, header.alg));

/** Header and text of a message. */
export const jweDecrypt = async ({ message, key, alg }) => {
  const { plaintext, protectedHeader } = await compactDecrypt(message, await importJWK(key, alg), {
    keyManagementAlgorithms: [alg],
  });
  return JSON.stringify({ header: protectedHeader, text: new TextDecoder().decode(plaintext) });
};

/** HKDF-SHA-256 over the length-prefixed fields, as a JWK. */
export const sessionKey = ({ secret, kid, method, subject, tokenId }) => {
  const fields = ["gapura session key v2", kid, method, subject, tokenId].map((field) => {
    const bytes = Buffer.from(field);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  });
  const key = hkdfSync("sha256", Buffer.from(secret), Buffer.alloc(0), Buffer.concat(fields), 32);
  return JSON.stringify({ kty: "oct", k: base64url.encode(new Uint8Array(key)) });
};
