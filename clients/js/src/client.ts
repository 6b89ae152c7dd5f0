// The `fetch` wrapper: finds keys, seals, sends, opens; what does not open is an error and never a response.

import { base64url, type Bytes, text, unbase64url, utf8 } from "./bytes.js";
import { sealAes128gcm } from "./aes128gcm.js";
import { canonicalPath, type Context, type Opened, type Place, type Sealed } from "./context.js";
import { authenticate, type Mac, MAC_HEADER, openCryptojs, type Passphrase, sealCryptojs } from "./cryptojs.js";
import { GapuraError, problemIn } from "./errors.js";
import { sealHpke } from "./hpke.js";
import { sealJwe } from "./jwe.js";
import { callerOf, deliver, type Fetch, findKey, type KeySet, KeySetCache, nameOf, type PublicKey, type Session } from "./keys.js";
import { locate, replaceSpans } from "./members.js";

export interface Options {
  /** The entry `[encryption.NAME]` of the gateway's configuration that the routes use. */
  encryption: string;
  /** The gateway, and what relative URLs are relative to. Default: the page's own origin. */
  baseUrl?: string | URL;
  /** How messages are sealed. Never another than this one. Default: `hpke`. */
  profile?: "hpke" | "jwe" | "aes128gcm" | "cryptojs";
  /** Headers of every request, for credentials above all; asked anew for each. */
  headers?: () => HeadersInit | Promise<HeadersInit>;
  /** As in `RequestInit`, for credentials in cookies. */
  credentials?: RequestCredentials;
  /** The caller's user id and token id where the gateway knows them by other claims than `sub` and `jti`; "" on public routes. */
  subject?: string | (() => string);
  tokenId?: string | (() => string);
  /** JSON pointers of the members that are sealed in place, where the entry has `members`; else whole bodies are. */
  members?: readonly string[];
  /** The gateway's key set, known beforehand: then none is fetched, and nobody between can put in another. */
  keys?: KeySet;
  /** `jwe` only: under a session key (A256KW), also where the gateway offers a public key. */
  sessionKey?: boolean;
  /** `cryptojs` only: the MAC header. `false` for gateways with `mac = "off"`. Default: true. */
  mac?: boolean;
  /**
   * How often a request is sent again after a failed connection, 502, 503 or 504. POST and PATCH too: for services that honour
   * `Idempotency-Key`, which all attempts share. Default: 0.
   */
  retries?: number;
  /** What the gateway gets as `Host`, where something on the way changes it. */
  authority?: string;
  fetch?: Fetch;
  now?: () => number;
}

type Target = Omit<Place, "subject" | "tokenId">;

const ENVELOPE_HEADER = "X-Gapura-Envelope";
const MEDIA_TYPES: Record<string, string> = { hpke: "application/vnd.gapura.hpke", jwe: "application/jose" };
const JSON_TYPE = "application/json";
const RENEWING = ["DECRYPTION_FAILED", "KEY_VERIFICATION_FAILED"];
const isJson = (type: string | null) => /^application\/([\w.+-]+\+)?json\b/i.test(type ?? "");
const said = (value: string | (() => string)) => (typeof value === "function" ? value() : value);

/** A `fetch` for one gateway and one of its encryption entries. */
export function gapura(options: Options): (input: RequestInfo | URL, init?: RequestInit) => Promise<Response> {
  const client = new Client(options);
  return (input, init) => client.fetch(input, init);
}

/** Which key a call uses, and under which it was refused. */
interface KeysOfCall {
  used?: string;
  refused?: { key: string | undefined; error: unknown };
}

function use(keys: KeysOfCall, key: string): void {
  if (keys.refused?.key === key) throw keys.refused.error;
  keys.used = key;
}

/** One attempt, ready to be sent, and what opens its response. */
interface Attempt {
  body: Bytes | undefined;
  open(response: Response, body: Bytes): Promise<Opened>;
}

class Client {
  private readonly base: URL;
  private readonly send: Fetch;
  private readonly now: () => number;
  private readonly profile: string;
  private readonly keySet: { get(): Promise<KeySet>; forget(): void };
  private session: { of: string; held: Promise<Session> } | undefined;

  constructor(private readonly options: Options) {
    this.base = new URL(options.baseUrl ?? globalThis.location?.href);
    this.send = options.fetch ?? ((input, init) => fetch(input, init));
    this.now = options.now ?? Date.now;
    this.profile = options.profile ?? "hpke";
    const { keys } = options;
    this.keySet = keys
      ? { get: () => Promise.resolve(keys), forget() {} }
      : new KeySetCache(this.base.origin, this.send, this.now);
  }

  async fetch(input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
    const url = new URL(input instanceof Request ? input.url : input, this.base);
    if (url.origin !== this.base.origin) throw new GapuraError("FOREIGN_ORIGIN", `${url.origin} is not ${this.base.origin}`);
    const typed = input instanceof Request || new Headers(init.headers).has("Content-Type");
    const given = new Request(input instanceof Request ? input : url, init);
    const body = new Uint8Array(await given.arrayBuffer());
    const own = new Headers(given.headers);
    // A text without a type is JSON: what these services speak, and what `fetch` would call text/plain.
    if (!body.length) own.delete("Content-Type");
    else if (!typed && typeof init.body === "string") own.set("Content-Type", JSON_TYPE);
    if (/^(POST|PATCH)$/.test(given.method) && !own.has("Idempotency-Key")) {
      own.set("Idempotency-Key", base64url(crypto.getRandomValues(new Uint8Array(16))));
    }
    const keys: KeysOfCall = {};
    for (let attempt = 0; ; ) {
      try {
        return await this.exchange(url, given, init, own, body, keys);
      } catch (error) {
        given.signal.throwIfAborted();
        const { code, status, response } = error instanceof GapuraError ? error : ({} as Partial<GapuraError>);
        if (RENEWING.includes(code!) && status === 400 && !keys.refused) {
          // Keys may have changed since. Nothing that the gateway refuses so has reached the service. But a refusal may be
          // forged: the message is sent again under another key only.
          keys.refused = { key: keys.used, error };
          this.keySet.forget();
          this.session = undefined;
        } else if (attempt < (this.options.retries ?? 0) && (error instanceof TypeError || (status! >= 502 && status! <= 504))) {
          const told = Number(response?.headers.get("Retry-After") ?? NaN) * 1000;
          const milliseconds = Math.min(told >= 0 ? told : 200 * 2 ** attempt * (0.5 + Math.random()), 30_000);
          await new Promise((resolve) => setTimeout(resolve, milliseconds));
          given.signal.throwIfAborted();
          attempt++;
        } else {
          throw error;
        }
      }
    }
  }

  private async exchange(url: URL, given: Request, init: RequestInit, own: Headers, plaintext: Bytes, keys: KeysOfCall): Promise<Response> {
    const credentials = new Headers(await this.options.headers?.());
    const authorization = own.get("Authorization");
    if (authorization !== null) credentials.set("Authorization", authorization);
    const headers = new Headers(credentials);
    own.forEach((value, name) => headers.set(name, value));

    const place = {
      method: given.method,
      authority: this.options.authority ?? url.host,
      path: canonicalPath(url.pathname),
      query: url.search.slice(1),
    };
    const { body, open } = await this.seal(place, credentials, headers, plaintext, keys);
    const response = await this.send(url.origin + url.pathname + url.search, {
      ...init,
      method: given.method,
      headers,
      body: body ?? null,
      signal: given.signal,
      credentials: this.options.credentials ?? given.credentials,
      mode: given.mode,
      cache: "no-store", // a kept response would be one to another request, and not open
      redirect: given.redirect === "manual" ? "manual" : "error", // a message is sealed for one place
    });
    if (response.type === "opaqueredirect") return response;
    const sealed = new Uint8Array(await response.arrayBuffer());
    const whole = rebuilt(response, sealed, response.headers);
    const problem = problemIn(whole, () => new TextDecoder().decode(sealed));
    if (problem) throw problem;
    if (!sealed.length) return whole;
    let opened: Opened;
    try {
      opened = await open(response, sealed);
    } catch (cause) {
      throw this.notOpened(whole, cause);
    }
    const answered = new Headers(response.headers);
    for (const name of ["Content-Length", "Content-Encoding", ENVELOPE_HEADER]) answered.delete(name);
    answered.set("Content-Type", opened.contentType);
    return rebuilt(response, opened.plaintext, answered);
  }

  private notOpened(response: Response, cause: unknown): GapuraError {
    const type = response.headers.get("Content-Type") ?? "";
    const encoded = response.headers.get("Content-Encoding") === "aes128gcm";
    const looksSealed = this.options.members || (this.profile === "cryptojs" && isJson(type)) || encoded;
    if (looksSealed || type === MEDIA_TYPES[this.profile]) {
      return new GapuraError("RESPONSE_INVALID", `the response does not open: ${(cause as Error).message}`, response, undefined, { cause });
    }
    return new GapuraError("RESPONSE_NOT_SEALED", `a ${response.status} in clear to a sealed request`, response, undefined, { cause });
  }

  // --- sealing ------------------------------------------------------------------------------------------------------

  /** Seals `plaintext` whole or by its members, and says so in `headers`. */
  private async seal(at: Target, credentials: Headers, headers: Headers, plaintext: Bytes, keys: KeysOfCall): Promise<Attempt> {
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
    if (!key && this.profile === "hpke") {
      this.keySet.forget();
      key = await find();
      if (!key) throw new GapuraError("KEY_UNAVAILABLE", `the gateway offers no key for ${encryption} and the profile hpke`);
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
    if (this.options.mac !== false) {
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
    const session = await deliver(this.base.origin, this.send, path, method, credentials, mode);
    const { encryption } = this.options;
    if (session.encryption !== encryption) {
      throw new GapuraError("KEY_UNAVAILABLE", `${method} ${path} is encrypted by ${session.encryption}, not by ${encryption}`);
    }
    return session;
  }
}

/** A response as it came, with another body. */
function rebuilt(response: Response, body: Bytes, headers: Headers): Response {
  const { status, statusText, url } = response;
  const bodiless = !body.length || [204, 205, 304].includes(status);
  const made = new Response(bodiless ? null : body, { status, statusText, headers });
  return Object.defineProperty(made, "url", { value: url });
}
