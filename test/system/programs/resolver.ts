// A resolver for tests: answers every A question with one address, for three seconds, and TXT questions with more than a
// datagram holds; names of `silent.example` not at all. Prints `udp NAME TYPE` or `tcp NAME TYPE` for each. Arguments: ADDRESS PORT ANSWER. Goes on until it is ended.
import { isIPv4 } from "node:net";
import { type Packet, TRUNCATED_RESPONSE } from "dns-packet";
import { openBoundUdp } from "../../../src/linux/udp-socket.ts";
import { FakeUpstream } from "../../dns/fake-upstream.ts";

const TTL_SECONDS = 3;
const [address = "", port = "", data = ""] = process.argv.slice(2);

await FakeUpstream.start(
  (query, transport): Packet | undefined => {
    const { name, type } = query.questions![0]!;
    console.log(`${transport} ${name} ${type}`);
    if (name.endsWith("silent.example")) return undefined;
    if (type === "A") return { answers: [{ type, name, ttl: TTL_SECONDS, data }] };
    if (type !== "TXT") return {};
    if (transport === "udp") return { flags: TRUNCATED_RESPONSE };
    return { answers: [{ type, name, ttl: TTL_SECONDS, data: Array<string>(20).fill("x".repeat(250)) }] };
  },
  address,
  Number(port),
  isIPv4(address) ? openBoundUdp : undefined, // a thousand questions at once are not to be lost here
);
console.log("ready");
