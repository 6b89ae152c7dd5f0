// Keys as the gateway delivers them: its public keys for anybody, a session key or passphrase for one caller.

import { base64url, type Bytes, text, unbase64url, utf8 } from "./bytes.js";
import { GapuraError, problemIn } from "./errors.js";
import { openCompact } from "./jwe.js";
import { generate, publicJwk, supports } from "./primitives.js";

export type Fetch = (input: string, init?: RequestInit) => Promise<Response>;

export interface PublicKey extends JsonWebKey {
  kid: string;
  /** The encryption entries that take it, and each for which profiles. */
  encryption?: Record<string, string[]>;
}

export interface KeySet {
  keys: PublicKey[];
}

/** What a caller gets of its own. */
export interface Session {
  subject: string;
  tokenId: string;
  kid: string;
  /** Seconds since 1970. */
  expires: number;
  sessionKey?: Bytes;
  passphrase?: string;
  keyHash?: string;
}

const WELL_KNOWN = "/.well-known/gapura";
const DEFAULT_AGE = 300;
const MAX_AGE = 86_400;

/** The gateway's key set, kept as long as its headers say. */
export class KeySetCache {
  private held: { set: Promise<KeySet>; until: number } | undefined;
  private stale = false;

  constructor(private readonly origin: string, private readonly fetch: Fetch, private readonly now: () => number) {}

  /** The next look asks the gateway itself, past every cache. */
  forget(): void {
    this.held = undefined;
    this.stale = true;
  }

  async get(): Promise<KeySet> {
    if (!this.held || this.held.until <= this.now()) {
      const held = { set: this.load((until) => (held.until = until)), until: Infinity };
      this.held = held;
      held.set.catch(() => this.held === held && this.forget());
    }
    return this.held.set;
  }

  private async load(keepUntil: (until: number) => void): Promise<KeySet> {
    const cache = this.stale ? "reload" : "default";
    const response = await this.fetch(`${this.origin}${WELL_KNOWN}/keys`, { cache, credentials: "omit", redirect: "error" });
    const set = (await answer(response)) as unknown as KeySet;
    if (!Array.isArray(set.keys)) throw new GapuraError("KEY_UNAVAILABLE", "the gateway's key set has no keys", response);
    const age = /\bmax-age=(\d{1,9})/.exec(response.headers.get("Cache-Control") ?? "")?.[1] ?? DEFAULT_AGE;
    const passed = Number(response.headers.get("Age") ?? 0) || 0;
    keepUntil(this.now() + 1000 * (Math.min(Number(age), MAX_AGE) - passed));
    this.stale = false;
    return set;
  }
}

/** The first key for this entry and profile that this WebCrypto can agree with. */
export async function findKey({ keys }: KeySet, encryption: string, profile: string): Promise<PublicKey | undefined> {
  for (const key of keys) {
    const { encryption: entries = {}, kid } = key;
    const fits = Object.hasOwn(entries, encryption) && entries[encryption]?.includes(profile) && typeof kid === "string";
    if (fits && (await supports(key.crv ?? ""))) return key;
  }
  return undefined;
}

/** Asks for the caller's own key, sealed to a key of this moment, so that only its asker reads it. */
export async function deliver(
  origin: string, fetch: Fetch, path: string, method: string, headers: Headers, credentials: RequestCredentials,
): Promise<Session & { encryption: string }> {
  const pair = await generate("P-256");
  headers.set("Content-Type", "application/json");
  const response = await fetch(`${origin}${WELL_KNOWN}/session-key?${new URLSearchParams({ path, method })}`, {
    method: "POST", headers, credentials, cache: "no-store", redirect: "error",
    body: JSON.stringify({ public_key: await publicJwk(pair.publicKey) }),
  });
  const given = await answer(response);
  let own: Record<string, unknown> = {};
  try {
    if (given.sealed !== undefined) own = JSON.parse(text((await openCompact(String(given.sealed), pair)).plaintext));
  } catch (cause) {
    throw new GapuraError("KEY_UNAVAILABLE", "the delivered key does not open", response, undefined, { cause });
  }
  const { session_key: sessionKey, passphrase } = own;
  return {
    encryption: String(given.encryption),
    subject: String(given.subject ?? ""),
    tokenId: String(given.token_id ?? ""),
    kid: String(given.kid ?? ""),
    expires: Number(given.expires),
    ...(typeof sessionKey === "string" && { sessionKey: unbase64url(sessionKey) }),
    ...(typeof passphrase === "string" && { passphrase, keyHash: String(given.key_hash) }),
  };
}

async function answer(response: Response): Promise<Record<string, unknown>> {
  const body = await response.text();
  const problem = problemIn(response, () => body);
  if (problem) throw problem;
  try {
    if (response.ok) return JSON.parse(body);
  } catch {
    // said below
  }
  throw new GapuraError("KEY_UNAVAILABLE", `key delivery answered with ${response.status}`, response);
}

/** The caller as its JWT names it. Nothing is verified: whoever cites a false one only seals what does not open. */
export function callerOf(authorization: string | null): { subject: string; tokenId: string } | undefined {
  const payload = /^Bearer\s+[\w-]+\.([\w-]+)\.[\w-]+$/i.exec(authorization ?? "")?.[1];
  if (!payload) return;
  try {
    const { sub, jti } = JSON.parse(text(unbase64url(payload)));
    if (sub !== undefined) return { subject: String(sub), tokenId: String(jti ?? "") };
  } catch {
    // not a JWT after all
  }
  return;
}

/** A name for a set of credentials that does not hold them. */
export const nameOf = async (headers: Headers): Promise<string> =>
  base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(JSON.stringify([...headers])))));
