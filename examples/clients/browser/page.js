// The browser client: `gapura` in front of the page's own fetch. What goes over the wire is shown beside what it means.

import { gapura } from "./gapura.js";

/** A fetch that shows what passes through it. */
const shown = (show) => async (url, init) => {
  const response = await fetch(url, init);
  if (!new URL(url).pathname.startsWith("/.well-known/")) {
    show("sent", `${init.method} ${new URL(url).pathname}\n${lines(init.headers)}\n\n${preview(init.body)}`);
    const body = new Uint8Array(await response.clone().arrayBuffer());
    show("answer", `${response.status}\n${lines(response.headers)}\n\n${preview(body)}`);
  }
  return response;
};

const lines = (headers) =>
  [...headers].map(([name, value]) => `${name}: ${name === "authorization" ? value.slice(0, 20) : value}`).join("\n");

const preview = (bytes) => `${bytes.length} bytes\n${new TextDecoder("latin1").decode(bytes.slice(0, 400)).replace(/[^ -~]/g, "·")}`;

document.getElementById("payment").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { token, profile, amount, currency, card } = Object.fromEntries(new FormData(event.target));
  const result = document.getElementById("result");
  delete result.dataset.status;
  // textContent, never innerHTML: what a server answers is data, not markup.
  const show = (id, value) => {
    document.getElementById(id).textContent = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  };
  for (const id of ["sent", "answer", "opened"]) show(id, "");
  const fetch = gapura({
    encryption: "payments",
    profile,
    headers: () => ({ Authorization: `Bearer ${token}` }),
    fetch: shown(show),
  });
  try {
    const body = JSON.stringify({ amount: Number(amount), currency, card });
    const response = await fetch("/payments", { method: "POST", body });
    show("opened", await response.json());
    result.dataset.status = response.status;
  } catch (error) {
    show("opened", error.message);
    result.dataset.status = error.code ?? "failed";
  }
});
