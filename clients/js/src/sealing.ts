// Which key a message is sealed under, for whom, and in what form it goes: whole, as a header, or member by member.

import { base64url, type Bytes, text, unbase64url, utf8 } from "./bytes.js";
import { sealAes128gcm } from "./aes128gcm.js";
import type { Context, Opened, Place, Sealed } from "./context.js";
import { authenticate, type Mac, MAC_HEADER, openCryptojs, type Passphrase, sealCryptojs } from "./cryptojs.js";
import { GapuraError } from "./errors.js";
import { sealHpke } from "./hpke.js";
import { sealJwe } from "./jwe.js";
import { callerOf, deliver, type Fetch, findKey, type KeySet, KeySetCache, nameOf, type PublicKey, type Session } from "./keys.js";
import { locate, replaceSpans } from "./members.js";
import type { Options } from "./options.js";

type Target = Omit<Place, "subject" | "tokenId">;

export const ENVELOPE_HEADER = "X-Gapura-Envelope";
export const JSON_TYPE = "application/json";
export const MEDIA_TYPES: Record<string, string> = { hpke: "application/vnd.gapura.hpke", jwe: "application/jose" };
export const isJson = (type: string | null) => /^application\/([\w.+-]+\+)?json\b/i.test(type ?? "");
const said = (value: string | (() => string)) => (typeof value === "function" ? value() : value);

/** Which key a call uses, and under which it was refused. */
export interface KeysOfCall {
  used?: string;
  refused?: { key: string | undefined; error: unknown };
}

function use(keys: KeysOfCall, key: string): void {
  if (keys.refused?.key === key) throw keys.refused.error;
  keys.used = key;
}

/** One attempt, ready to be sent, and what opens its response. */
export interface Attempt {
  body: Bytes | undefined;
  open(response: Response, body: Bytes): Promise<Opened>;
}

export class Sealer {
  private readonly profile: string;
  private readonly keySet: { get(): Promise<KeySet>; forget(): void };
  private session: { of: string; held: Promise<Session> } | undefined;

  constructor(
    private readonly options: Options,
    private readonly origin: string,
    private readonly send: Fetch,
    private readonly now: () => number,
  ) {
    this.profile = options.profile ?? "hpke";
    const { keys } = options;
    this.keySet = keys ? { get: () => Promise.resolve(keys), forget() {} } : new KeySetCache(origin, send, now);
  }

  /** Keys are fetched anew for the next message. */
  forget(): void {
    this.keySet.forget();
    this.session = undefined;
  }


  /** Seals `plaintext` whole or by its members, and says so in `headers`. */
  async seal(at: Target, credentials: Headers, headers: Headers, plaintext: Bytes, keys: KeysOfCall): Promise<Attempt> {
    const { members } = this.options;
    const contentType = headers.get("Content-Type") ?? "";
    if (members && plaintext.length && !isJson(contentType)) {
      throw new GapuraError("MEMBER_INVALID", "members are sealed in JSON bodies only");
    }
    if (this.profile === "cryptojs") return this.sealFounding(at, credentials, headers, plaintext, keys);
    const sealer = await this.sealer(at, credentials, keys);
    if (members) return this.sealMembers(headers, plaintext, sealer);
    const sealed = await sealer("", plaintext.length ? contentType : "", plaintext);
    const open = (response: Response, body: Bytes) =>
      sealed.open(body, response.status, "", response.headers.get("Content-Type") ?? "");
    if (!plaintext.length) {
      headers.set(ENVELOPE_HEADER, `${this.profile}=${this.asText(sealed.message)}`);
      return { body: undefined, open };
    }
    if (this.profile === "aes128gcm") headers.set("Content-Encoding", "aes128gcm");
    else headers.set("Content-Type", MEDIA_TYPES[this.profile]!);
    return { body: sealed.message, open };
  }

  private async sealMembers(
    headers: Headers, plaintext: Bytes, sealer: (part: string, contentType: string, value: Bytes) => Promise<Sealed>,
  ): Promise<Attempt> {
    let first: Sealed | undefined;
    let body: Bytes | undefined;
    if (plaintext.length) {
      body = await this.inMembers(plaintext, async (value, part) => {
        const sealed = await sealer(part, JSON_TYPE, utf8(value));
        first ??= sealed;
        return JSON.stringify(this.asText(sealed.message));
      });
    } else {
      first = await sealer("", "", plaintext);
      headers.set(ENVELOPE_HEADER, `${this.profile}=${this.asText(first.message)}`);
    }
    const open = (response: Response, body: Bytes) =>
      this.openMembers(response, body, async (value, part) => {
        const message = this.profile === "jwe" ? utf8(value as string) : unbase64url(value as string);
        return (await first!.open(message, response.status, part, JSON_TYPE)).plaintext;
      });
    return { body, open };
  }

  private async inMembers(json: Bytes, replace: (value: string, part: string) => Promise<string>): Promise<Bytes> {
    const document = text(json);
    let spans;
    try {
      spans = locate(document, this.options.members!);
    } catch (cause) {
      throw new GapuraError("MEMBER_INVALID", (cause as Error).message, undefined, undefined, { cause });
    }
    return utf8(await replaceSpans(document, spans, replace));
  }

  private async openMembers(response: Response, body: Bytes, open: (value: unknown, part: string) => Promise<Bytes>): Promise<Opened> {
    const contentType = response.headers.get("Content-Type") ?? "";
    if (!isJson(contentType)) return { plaintext: body, contentType };
    const plaintext = await this.inMembers(body, async (value, part) => {
      const opened = text(await open(JSON.parse(value), part));
      JSON.parse(opened);
      return opened;
    });
    return { plaintext, contentType };
  }

  private asText = (message: Bytes): string => (this.profile === "jwe" ? text(message) : base64url(message));

  /** What seals under the keys of this profile for this place and caller, each message with a stamp of its own. */
  private async sealer(at: Target, credentials: Headers, keys: KeysOfCall) {
    const { profile } = this;
    let key: PublicKey | undefined;
    if (profile === "hpke" || (profile === "jwe" && !this.options.sessionKey)) key = await this.publicKey();
    const session = key ? undefined : await this.ownSession(at, credentials);
    const caller = session ?? (await this.caller(at, credentials));
    const kid = key?.kid ?? session!.kid;
    const sessionKey = session?.sessionKey;
    if (!key && (!sessionKey || !kid)) throw new GapuraError("KEY_UNAVAILABLE", `no key for the profile ${profile} was delivered`);
    const { subject, tokenId } = caller;
    use(keys, sessionKey ? base64url(sessionKey) : JSON.stringify([kid, subject, tokenId]));
    return (part: string, contentType: string, plaintext: Bytes): Promise<Sealed> => {
      const id = base64url(crypto.getRandomValues(new Uint8Array(16)));
      const c: Context = { ...at, profile, kid, subject, tokenId, iat: this.now(), id, contentType, part };
      if (profile === "hpke") return sealHpke(c, key!, plaintext);
      if (profile === "jwe") return sealJwe(c, key ? { recipient: key } : { sessionKey: sessionKey! }, plaintext);
      return sealAes128gcm(c, sessionKey!, plaintext);
    };
  }

  private async publicKey(): Promise<PublicKey | undefined> {
    const { encryption } = this.options;
    const find = async () => findKey(await this.keySet.get(), encryption, this.profile);
    let key = await find();
    // Without one `jwe` takes a session key; but not where keys were given so that nobody between can put in another.
    if (!key && (this.profile === "hpke" || this.options.keys)) {
      this.keySet.forget();
      key = await find();
      if (!key) throw new GapuraError("KEY_UNAVAILABLE", `there is no key for ${encryption} and the profile ${this.profile}`);
    }
    return key;
  }

  private async sealFounding(
    at: Target, credentials: Headers, headers: Headers, plaintext: Bytes, keys: KeysOfCall,
  ): Promise<Attempt> {
    const session = await this.ownSession(at, credentials);
    if (!session.passphrase) throw new GapuraError("KEY_UNAVAILABLE", "no passphrase was delivered");
    const key = session as Passphrase;
    use(keys, key.keyHash);
    const timestamp = this.now();
    const seal = async (value: Bytes) => JSON.stringify(await sealCryptojs(key, session.subject, timestamp, value));
    const { members } = this.options;
    let body: Bytes | undefined;
    if (plaintext.length) {
      body = members ? await this.inMembers(plaintext, (value) => seal(utf8(value))) : utf8(await seal(plaintext));
      headers.set("Content-Type", JSON_TYPE);
    }
    let mac: Mac | undefined;
    if (this.options.mac !== false && !members) {
      mac = await authenticate(key, { ...at, subject: session.subject, tokenId: session.tokenId }, timestamp, body ?? new Uint8Array(0));
      headers.set(MAC_HEADER, mac.header);
    }
    const open = async (response: Response, body: Bytes): Promise<Opened> => {
      await mac?.verify(response.headers.get(MAC_HEADER), body, response.status);
      if (members) return this.openMembers(response, body, (value) => openCryptojs(key, value));
      return { plaintext: await openCryptojs(key, JSON.parse(text(body))), contentType: JSON_TYPE };
    };
    return { body, open };
  }

  // --- the caller ---------------------------------------------------------------------------------------------------

  private async caller(at: Target, credentials: Headers): Promise<{ subject: string; tokenId: string }> {
    const { subject, tokenId } = this.options;
    if (subject !== undefined) return { subject: said(subject), tokenId: said(tokenId ?? "") };
    const named = callerOf(credentials.get("Authorization"));
    if (named) return named;
    try {
      return await this.ownSession(at, credentials);
    } catch (cause) {
      if (cause instanceof GapuraError && cause.problem && cause.code !== "ROUTE_NOT_FOUND") throw cause;
      throw new GapuraError("CALLER_UNKNOWN", "no JWT names the caller and the gateway does not say: give `subject`", undefined, undefined, { cause });
    }
  }

  /** The caller's own key, kept until shortly before it expires or other credentials are used. */
  private async ownSession(at: Target, credentials: Headers): Promise<Session> {
    const of = await nameOf(credentials);
    if (this.session?.of === of) {
      const session = await this.session.held;
      if (!(session.expires * 1000 < this.now() + 30_000)) return session;
    }
    const held = this.deliver(at, new Headers(credentials));
    const mine = { of, held };
    this.session = mine;
    held.catch(() => this.session === mine && (this.session = undefined));
    return held;
  }

  private async deliver({ path, method }: { path: string; method: string }, credentials: Headers): Promise<Session> {
    const mode = this.options.credentials ?? "same-origin";
    const session = await deliver(this.origin, this.send, path, method, credentials, mode);
    const { encryption } = this.options;
    if (session.encryption !== encryption) {
      throw new GapuraError("KEY_UNAVAILABLE", `${method} ${path} is encrypted by ${session.encryption}, not by ${encryption}`);
    }
    return session;
  }
}

