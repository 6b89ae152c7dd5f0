// MD5 (RFC 1321), because the founding format derives its keys with it and WebCrypto does not have it. For nothing else.

import { type Bytes, concat } from "./bytes.js";

const SHIFTS = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]] as const;
const SINES = Array.from({ length: 64 }, (_, i) => Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32));

export function md5(data: Bytes): Bytes {
  const padded = concat(data, Uint8Array.of(0x80), new Uint8Array((119 - (data.length % 64)) % 64), new Uint8Array(8));
  const words = new DataView(padded.buffer);
  words.setUint32(padded.length - 8, data.length * 8, true); // passphrases are far below 2^29 bytes
  const state = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];
  for (let block = 0; block < padded.length; block += 64) {
    let [a, b, c, d] = state as [number, number, number, number];
    for (let i = 0; i < 64; i++) {
      const round = i >> 4;
      const [mixed, word] = [
        [(b & c) | (~b & d), i],
        [(d & b) | (~d & c), 5 * i + 1],
        [b ^ c ^ d, 3 * i + 5],
        [c ^ (b | ~d), 7 * i],
      ][round] as [number, number];
      const sum = (a + mixed + SINES[i]! + words.getUint32(block + (word % 16) * 4, true)) | 0;
      const shift = SHIFTS[round]![i % 4]!;
      [a, d, c, b] = [d, c, b, (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0];
    }
    [a, b, c, d].forEach((value, at) => (state[at] = (state[at]! + value) | 0));
  }
  const out = new DataView(new ArrayBuffer(16));
  state.forEach((value, at) => out.setInt32(at * 4, value, true));
  return new Uint8Array(out.buffer);
}
