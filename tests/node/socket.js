// A WebSocket of a real client. Arguments: URL, the header that carries the credential, and its value. Says what happens, one line of
// JSON for each; each line on standard input is sent as a message. Ends with its standard input.
import { createInterface } from "node:readline";
// Installed for the Express example, which serves with it.
import WebSocket from "../../examples/express/node_modules/ws/wrapper.mjs";

const [url, header, value] = process.argv.slice(2);
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const socket = new WebSocket(url, { headers: { [header]: value }, rejectUnauthorized: false });
socket.on("open", () => say({ event: "open" }));
socket.on("message", (data) => say({ event: "message", text: data.toString() }));
socket.on("close", (code, reason) => say({ event: "close", code, reason: reason.toString() }));
socket.on("error", (error) => say({ event: "error", text: error.message }));
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => socket.send(line));
lines.on("close", () => process.exit());
