// A client's cryptography, by the libraries of existing clients. Reads one JSON request per line, writes one JSON answer per
// line, ends with its standard input. It does the cryptography only: the bodies travel by the tests' own sockets and curl.

import { createInterface } from "node:readline";
import CryptoJS from "crypto-js";
import jwt from "jsonwebtoken";
import { operations as strong } from "./strong.js";

const { AES, SHA256, enc } = CryptoJS;
const hex = (text) => SHA256(text).toString(enc.Hex);

const operations = {
  ...strong,
  /** The passphrase of a caller; with a timestamp, that of `user_timestamp`. */
  passphrase: ({ userId, email, masterKey, timestamp }) =>
    hex(`${userId}_${email}_${masterKey}${timestamp === undefined ? "" : `_${timestamp}`}`),
  keyHash: ({ passphrase }) => hex(passphrase),
  /** `CryptoJS.AES.encrypt(text, passphrase)`: base64 of `Salted__`, salt and ciphertext. */
  encrypt: ({ text, passphrase }) => AES.encrypt(text, passphrase).toString(),
  decrypt: ({ data, passphrase }) => AES.decrypt(data, passphrase).toString(enc.Utf8),
  /** Plaintext that need not be text. */
  encryptBase64: ({ bytes, passphrase }) => AES.encrypt(enc.Base64.parse(bytes), passphrase).toString(),
  decryptBase64: ({ data, passphrase }) => AES.decrypt(data, passphrase).toString(enc.Base64),
  sign: ({ claims, secret, options }) => jwt.sign(claims, secret, options),
};

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const { operation, ...given } = JSON.parse(line);
    answer = { value: await operations[operation](given) };
  } catch (error) {
    answer = { error: String(error.message) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
