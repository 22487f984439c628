// Asks SERVER for the A records of NAME every 10 ms, from a container. Prints `asking` at the first answer, and at SIGTERM
// the longest time without an answer, in milliseconds. Arguments: SERVER NAME.
import { createSocket } from "node:dgram";
import { encode } from "dns-packet";
import { DNS_PORT } from "../src/lib/standard-ports.ts";

const EVERY_MS = 10;
const [server = "", name = ""] = process.argv.slice(2);
let id = 0;
let last: number | undefined;
let longestMs = 0;

const socket = createSocket("udp4");
socket.on("error", () => {}); // while no process listens there
socket.on("message", () => {
  const now = performance.now();
  if (last === undefined) console.log("asking");
  else longestMs = Math.max(longestMs, now - last);
  last = now;
});
setInterval(() => {
  id = (id + 1) & 0xffff;
  socket.send(encode({ type: "query", id, questions: [{ type: "A", name }] }), DNS_PORT, server);
}, EVERY_MS);
process.on("SIGTERM", () => {
  console.log(`${longestMs}`);
  process.exit(0);
});
