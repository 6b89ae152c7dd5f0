// The `fetch` wrapper: finds keys, seals, sends, opens; what does not open is an error and never a response.

import { base64url, type Bytes } from "./bytes.js";
import { canonicalPath, type Opened } from "./context.js";
import { GapuraError, problemIn } from "./errors.js";
import type { Fetch } from "./keys.js";
import type { Options } from "./options.js";
import { ENVELOPE_HEADER, isJson, JSON_TYPE, type KeysOfCall, MEDIA_TYPES, Sealer } from "./sealing.js";

const RENEWING = ["DECRYPTION_FAILED", "KEY_VERIFICATION_FAILED"];

/** A `fetch` for one gateway and one of its encryption entries. */
export function gapura(options: Options): (input: RequestInfo | URL, init?: RequestInit) => Promise<Response> {
  const client = new Client(options);
  return (input, init) => client.fetch(input, init);
}

class Client {
  private readonly base: URL;
  private readonly send: Fetch;
  private readonly sealer: Sealer;

  constructor(private readonly options: Options) {
    this.base = new URL(options.baseUrl ?? globalThis.location?.href);
    this.send = options.fetch ?? ((input, init) => fetch(input, init));
    this.sealer = new Sealer(options, this.base.origin, this.send, options.now ?? Date.now);
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
          this.sealer.forget();
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
    const { body, open } = await this.sealer.seal(place, credentials, headers, plaintext, keys);
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
    const profile = this.options.profile ?? "hpke";
    const type = response.headers.get("Content-Type") ?? "";
    const encoded = response.headers.get("Content-Encoding") === "aes128gcm";
    const looksSealed = this.options.members || (profile === "cryptojs" && isJson(type)) || encoded;
    if (looksSealed || type === MEDIA_TYPES[profile]) {
      return new GapuraError("RESPONSE_INVALID", `the response does not open: ${(cause as Error).message}`, response, undefined, { cause });
    }
    return new GapuraError("RESPONSE_NOT_SEALED", `a ${response.status} in clear to a sealed request`, response, undefined, { cause });
  }
}

/** A response as it came, with another body. */
function rebuilt(response: Response, body: Bytes, headers: Headers): Response {
  const { status, statusText, url } = response;
  const bodiless = !body.length || [204, 205, 304].includes(status);
  const made = new Response(bodiless ? null : body, { status, statusText, headers });
  return Object.defineProperty(made, "url", { value: url });
}
