// Writes cryptojs.json: what existing clients send, made by the library they use.
//
//   npm install crypto-js@4.2.0 && node generate.js > cryptojs.json
//
// Salts are random in crypto-js. They are fixed here (but for the last), so that a second run writes the same file but for it.
const CryptoJS = require("crypto-js");

const MASTER_KEY = "a master key: ключ";
const callers = [
  { userId: "u1", email: "ada@example.com" },
  { userId: "42", email: "größe+λ@example.com" },
  { userId: "a_b/c\"d", email: "under_score@example.com" },
];
const plaintexts = [
  "",
  "{}",
  "1",
  JSON.stringify({ a: "0123456" }),          // 15 bytes
  JSON.stringify({ a: "01234567" }),         // 16 bytes: a whole block, a block of padding follows
  JSON.stringify({ a: "012345678" }),        // 17 bytes
  JSON.stringify({ a: "x".repeat(24) }),     // 32 bytes
  JSON.stringify({ amount: 1000.5, currency: "EUR", note: "naïve ☕ 日本語 🦀", tags: ["\u0000", "\"", "\\", "/"], lone: "\ud800" }),
  JSON.stringify(Array.from({ length: 400 }, (_, i) => ({ id: i, name: "item " + i }))),
  "not JSON at all",
];
const TIMESTAMP = 1700000000123;

function saltOf(index) {
  return CryptoJS.SHA256("salt " + index).toString(CryptoJS.enc.Hex).slice(0, 16);
}

const vectors = [];
for (const derivation of ["user", "user_timestamp"]) {
  plaintexts.forEach((plaintext, index) => {
    const { userId, email } = callers[index % callers.length];
    const parts = [userId, email, MASTER_KEY];
    if (derivation === "user_timestamp") parts.push(String(TIMESTAMP));
    const passphrase = CryptoJS.SHA256(parts.join("_")).toString();
    const salt = saltOf(vectors.length);
    // What CryptoJS.AES.encrypt(plaintext, passphrase) does, with the salt given.
    const derived = CryptoJS.kdf.OpenSSL.execute(passphrase, 8, 4, CryptoJS.enc.Hex.parse(salt));
    const encrypted = CryptoJS.AES.encrypt(plaintext, derived.key, { iv: derived.iv });
    const encryptedData = CryptoJS.lib.CipherParams.create({
      ciphertext: encrypted.ciphertext,
      salt: derived.salt,
    }).toString(CryptoJS.format.OpenSSL);
    if (CryptoJS.AES.decrypt(encryptedData, passphrase).toString(CryptoJS.enc.Utf8) !== plaintext) throw new Error("not one format");
    vectors.push({
      derivation, userId, email, masterKey: MASTER_KEY, timestamp: TIMESTAMP, plaintext, salt, passphrase,
      key: derived.key.toString(), iv: derived.iv.toString(),
      keyHash: CryptoJS.SHA256(passphrase).toString(), encryptedData,
    });
  });
}
// One with a salt of the library's own choice, through the call that clients use.
{
  const passphrase = CryptoJS.SHA256(["u1", "ada@example.com", MASTER_KEY].join("_")).toString();
  const plaintext = JSON.stringify({ hello: "world" });
  const encrypted = CryptoJS.AES.encrypt(plaintext, passphrase);
  vectors.push({
    derivation: "user", userId: "u1", email: "ada@example.com", masterKey: MASTER_KEY, timestamp: TIMESTAMP, plaintext,
    salt: encrypted.salt.toString(), passphrase, key: encrypted.key.toString(), iv: encrypted.iv.toString(),
    keyHash: CryptoJS.SHA256(passphrase).toString(), encryptedData: encrypted.toString(),
  });
}
console.log("[\n" + vectors.map((vector) => JSON.stringify(vector)).join(",\n") + "\n]");
