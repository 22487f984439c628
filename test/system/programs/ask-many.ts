// A client for tests: asks the first server of resolv.conf over UDP for COUNT names of DOMAIN at once, each again every 5 s
// as a stub resolver does, and prints how many had which response code, as JSON. Arguments: DOMAIN COUNT.
import { createSocket } from "node:dgram";
import { getServers } from "node:dns";
import { type DecodedPacket, decode, encode } from "dns-packet";

const AGAIN_MS = 5000;
const [server] = getServers();
const [domain = "", count] = process.argv.slice(2);
const rcodes = new Map<number, string>();

const socket = createSocket("udp4");
socket.on("message", (message) => {
  const { id = 0, rcode } = decode(message) as DecodedPacket & { rcode: string };
  rcodes.set(id, rcode);
  if (rcodes.size < Number(count)) return;
  const counts: Record<string, number> = {};
  for (const answered of rcodes.values()) counts[answered] = (counts[answered] ?? 0) + 1;
  console.log(JSON.stringify(counts));
  process.exit(0);
});

function sendAll(): void {
  for (let id = 0; id < Number(count); id++) {
    if (rcodes.has(id)) continue;
    const questions = [{ type: "A" as const, name: `n${id}.${domain}` }];
    socket.send(encode({ type: "query", id, flags: 0x0100, questions }), 53, server);
  }
}
sendAll();
setInterval(sendAll, AGAIN_MS);
