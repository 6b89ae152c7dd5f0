// What a message is bound to: a message that is moved to another place, caller or direction does not open.

import { type Bytes, fields } from "./bytes.js";

/** Where a message goes and whose it is. */
export interface Place {
  method: string;
  authority: string;
  path: string;
  query: string;
  subject: string;
  tokenId: string;
}

export interface Context extends Place {
  profile: string;
  kid: string;
  /** Milliseconds since 1970. */
  iat: number;
  id: string;
  contentType: string;
  /** Empty for a whole body, else the JSON pointer of the member. */
  part: string;
}

/** What a response is bound to beyond its request's place. */
export interface Answering {
  status: number;
  requestId: string;
}

export function contextBytes(c: Context, answering?: Answering): Bytes {
  const common = [
    c.profile, c.kid, c.method, c.authority, c.path, c.query, c.subject, c.tokenId, String(c.iat), c.id, c.contentType, c.part,
  ];
  const direction = answering ? "response" : "request";
  const more = answering ? [String(answering.status), answering.requestId] : [];
  return fields("gapura context v1", direction, ...common, ...more);
}

/** The path as the gateway reads it: characters that need no encoding are bare, other encodings in capitals. */
export const canonicalPath = (path: string): string =>
  path.replace(/%[0-9a-f]{2}/gi, (code) => {
    const character = String.fromCharCode(parseInt(code.slice(1), 16));
    return /[\w.~-]/.test(character) ? character : code.toUpperCase();
  });

/** What came out of a message. */
export interface Opened {
  plaintext: Bytes;
  contentType: string;
}

/** A sealed request, or a sealed member of one, and what opens the responses to it. */
export interface Sealed {
  id: string;
  message: Bytes;
  /** `part`: the member's pointer. `contentType` is asked only where the message does not tell it. */
  open(message: Bytes, status: number, part: string, contentType: string): Promise<Opened>;
}
