// A client for tests: asks SERVER for the A records of NAME every 2 ms, and prints the time and the addresses whenever
// they are others than before, as JSON. Arguments: SERVER NAME. Goes on until it is ended.
import { createSocket } from "node:dgram";
import { decode, encode } from "dns-packet";

const EVERY_MS = 2;
const [server = "", name = ""] = process.argv.slice(2);
let before: string | undefined;
let id = 0;

const socket = createSocket("udp4");
socket.on("message", (message) => {
  const addresses = (decode(message).answers ?? []).flatMap((record) => (record.type === "A" ? [record.data] : []));
  const now = addresses.sort().join(" ");
  if (now === before) return;
  before = now;
  console.log(JSON.stringify({ at: Date.now(), addresses }));
});
setInterval(() => {
  id = (id + 1) & 0xffff;
  socket.send(encode({ type: "query", id, questions: [{ type: "A", name }] }), 53, server);
}, EVERY_MS);
