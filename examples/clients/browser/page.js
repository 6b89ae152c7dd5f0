// The browser client of the `cryptojs` envelope, written as the clients in the field are: the global CryptoJS of a
// script tag, fetch, and a passphrase derived on the spot. The same format from Node is ../node/client.js.
"use strict";

const sha256 = (text) => CryptoJS.SHA256(text).toString(CryptoJS.enc.Hex);

async function send(path, payload, { userId, email, masterKey, authorization }) {
  const passphrase = sha256(`${userId}_${email}_${masterKey}`);
  const sent = {
    encryptedData: CryptoJS.AES.encrypt(JSON.stringify(payload), passphrase).toString(),
    keyHash: sha256(passphrase),
    timestamp: Date.now(),
    userId,
  };
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: authorization },
    body: JSON.stringify(sent),
  });
  const answer = await response.json();
  // The service's answers, its errors too, come sealed; what the gateway itself refuses is plain problem+json.
  const sealed = answer.data?.encryptedData;
  const opened = sealed ? JSON.parse(CryptoJS.AES.decrypt(sealed, passphrase).toString(CryptoJS.enc.Utf8)) : answer;
  return { status: response.status, sent, answer, opened };
}

document.getElementById("payment").addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = Object.fromEntries(new FormData(event.target));
  // textContent, never innerHTML: what a server answers is data, not markup.
  const show = (id, value) => {
    document.getElementById(id).textContent = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  };
  for (const id of ["sent", "answer", "opened"]) show(id, "");
  try {
    const payment = { amount: Number(fields.amount), currency: fields.currency, card: fields.card };
    const result = await send("/payments", payment, fields);
    show("sent", result.sent);
    show("answer", result.answer);
    show("opened", result.opened);
    document.getElementById("result").dataset.status = result.status;
  } catch (error) {
    show("opened", `no readable answer: ${error.message}`);
    document.getElementById("result").dataset.status = "failed";
  }
});
