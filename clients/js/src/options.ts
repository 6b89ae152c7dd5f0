// What a client is told.

import type { Fetch, KeySet } from "./keys.js";

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
  /** `cryptojs` only: the MAC header. `false` for gateways with `mac = "off"`. Default: true; with `members` there is none. */
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
