// Bytes and texts: what every envelope is written with.

export type Bytes = Uint8Array<ArrayBuffer>;

export const utf8 = (text: string): Bytes => new TextEncoder().encode(text) as Bytes;

/** Throws on what is no UTF-8: replacement characters would be a plaintext that nobody sent. */
export const text = (bytes: Bytes): string => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);

export function concat(...parts: Bytes[]): Bytes {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Big-endian, `length` bytes; up to 2^53. */
export function integer(value: number, length: number): Bytes {
  const bytes = new Uint8Array(length);
  for (let at = length - 1; at >= 0; at--) {
    bytes[at] = value % 256;
    value = Math.floor(value / 256);
  }
  return bytes;
}

export const readInteger = (bytes: Bytes): number => bytes.reduce((value, byte) => value * 256 + byte, 0);

export function base64(bytes: Bytes): string {
  let binary = "";
  // In pieces: the arguments of one call are limited.
  for (let at = 0; at < bytes.length; at += 8192) binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(binary);
}

export const unbase64 = (value: string): Bytes => Uint8Array.from(atob(value), (c) => c.charCodeAt(0));

export const base64url = (bytes: Bytes): string =>
  base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** Strict: without padding, and in the one spelling that these bytes have. */
export function unbase64url(value: string): Bytes {
  const bytes = /^[\w-]*$/.test(value) ? unbase64(value.replaceAll("-", "+").replaceAll("_", "/")) : undefined;
  if (!bytes || base64url(bytes) !== value) throw new Error("not base64url");
  return bytes;
}

export const hex = (bytes: Bytes): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** `fields(a, b, …)`: each with its length before it, so that no two lists give the same bytes. */
export const fields = (...texts: string[]): Bytes =>
  concat(...texts.map(utf8).flatMap((bytes) => [integer(bytes.length, 4), bytes]));

/** Reads from the front of a message; throws where it ends early. */
export class Reader {
  private at = 0;

  constructor(private readonly bytes: Bytes) {}

  take(length: number): Bytes {
    if (length > this.bytes.length - this.at) throw new Error("the message is cut short");
    return this.bytes.slice(this.at, (this.at += length));
  }

  integer(length: number): number {
    return readInteger(this.take(length));
  }

  rest(): Bytes {
    return this.bytes.slice(this.at);
  }
}
