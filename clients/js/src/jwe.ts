// Profile `jwe`: compact JWE (RFC 7516), ECDH-ES or A256KW, A256GCM. The context stands in the protected header, which is
// authenticated as a whole; the response's header is held member by member against what this request expects.

import { base64url, type Bytes, concat, integer, text, unbase64url, utf8 } from "./bytes.js";
import type { Answering, Context, Sealed } from "./context.js";
import {
  agree, type Entropy, fresh, gcmOpen, gcmSeal, importPublic, type KeyPair, publicJwk, sha256, unwrap, wrap,
} from "./primitives.js";

type Json = Record<string, unknown>;

/** Under a public key of the gateway, or under the caller's session key. */
export type JweKey = { recipient: JsonWebKey } | { sessionKey: Bytes };

export async function sealJwe(c: Context, key: JweKey, plaintext: Bytes, entropy: Entropy = fresh): Promise<Sealed> {
  const direct = "recipient" in key;
  const head = { alg: direct ? "ECDH-ES" : "A256KW", enc: "A256GCM", kid: c.kid, ...(c.contentType && { cty: c.contentType }) };
  let reply: KeyPair | undefined;
  let cek: Bytes;
  let wrapped: Bytes = new Uint8Array(0);
  let header: Json;
  if (direct) {
    const { curve, key: recipient } = await importPublic(key.recipient);
    const ephemeral = await entropy.pair(curve);
    reply = await entropy.pair(curve);
    cek = await concatKdf(await agree(ephemeral, recipient));
    const rpk = await publicJwk(reply.publicKey);
    header = { ...head, epk: await publicJwk(ephemeral.publicKey), ctx: { ...ctx(c), rpk } };
  } else {
    cek = entropy.bytes(32);
    wrapped = await wrap(key.sessionKey, cek);
    header = { ...head, ctx: ctx(c) };
  }
  const protectedHeader = base64url(utf8(JSON.stringify(header)));
  const iv = entropy.bytes(12);
  const sealed = await gcmSeal(cek, iv, utf8(protectedHeader), plaintext);
  const parts = [base64url(wrapped), base64url(iv), base64url(sealed.slice(0, -16)), base64url(sealed.slice(-16))];

  return {
    id: c.id,
    message: utf8([protectedHeader, ...parts].join(".")),
    async open(message, status, part) {
      const { header: answer, plaintext } = await openCompact(text(message), reply ?? (key as { sessionKey: Bytes }).sessionKey);
      const { cty, ctx: bound, epk, ...rest } = answer;
      const { iat, id } = (bound ?? {}) as Json;
      if (typeof iat !== "number" || typeof id !== "string" || typeof (cty ?? "") !== "string") throw new Error("no ctx");
      same(rest, { alg: head.alg, enc: head.enc, kid: c.kid });
      same(bound as Json, ctx({ ...c, iat, id, part }, { status, requestId: c.id }));
      return { contentType: (cty ?? "") as string, plaintext };
    },
  };
}

function ctx(c: Context, answering?: Answering): Json {
  return {
    v: 1, dir: answering ? "response" : "request", method: c.method, authority: c.authority, path: c.path, query: c.query,
    sub: c.subject, tid: c.tokenId, iat: c.iat, id: c.id, part: c.part,
    ...(answering && { status: answering.status, irt: answering.requestId }),
  };
}

/** Exactly these members with exactly these values; all of them are numbers and texts. */
function same(given: Json, expected: Json): void {
  const names = Object.keys(given);
  if (names.length !== Object.keys(expected).length || names.some((name) => given[name] !== expected[name])) {
    throw new Error("a message for another place");
  }
}

/** Opens a compact JWE under a key pair (ECDH-ES) or a key (A256KW). What its header says beyond that, the caller judges. */
export async function openCompact(token: string, key: KeyPair | Bytes): Promise<{ header: Json; plaintext: Bytes }> {
  const parts = token.split(".");
  if (parts.length !== 5) throw new Error("not a compact JWE");
  const [head, encryptedKey, iv, sealed, tag] = parts.map(unbase64url) as [Bytes, Bytes, Bytes, Bytes, Bytes];
  const header = JSON.parse(text(head)) as Json;
  const alg = key instanceof Uint8Array ? "A256KW" : "ECDH-ES";
  if (header.alg !== alg || header.enc !== "A256GCM" || "crit" in header || "zip" in header || tag.length !== 16) {
    throw new Error("a JWE of another kind");
  }
  let cek: Bytes;
  if (key instanceof Uint8Array) {
    cek = await unwrap(key, encryptedKey);
  } else {
    const epk = await importPublic(header.epk as JsonWebKey);
    if (encryptedKey.length || epk.curve !== key.curve || "apu" in header || "apv" in header) throw new Error("a JWE of another kind");
    cek = await concatKdf(await agree(key, epk.key));
  }
  return { header, plaintext: await gcmOpen(cek, iv, utf8(parts[0]!), concat(sealed, tag)) };
}

/** RFC 7518, section 4.6.2, for A256GCM and without party info: one block. */
const concatKdf = (z: Bytes): Promise<Bytes> =>
  sha256(concat(integer(1, 4), z, integer(7, 4), utf8("A256GCM"), integer(0, 8), integer(256, 4)));
