// Asks handlers as a client would, with a resolver that cannot be reached: the answer, or "forwarded".
import { decode, encode, type Packet, type RecordType } from "dns-packet";
import { createHandlers } from "../../src/dns/handlers.ts";
import { encodeResponse, parseQuery, TCP_BYTES } from "../../src/dns/message.ts";
import type { Names } from "../../src/dns/names.ts";
import { OutsideResolver } from "../../src/dns/resolver.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { silentLog } from "../../src/lib/log.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

export type Answered = Packet & { rcode: string; flag_aa: boolean; flag_tc: boolean };
/** `via`: the gateway asked. */
export type Ask = (address: string, name: string, type: string, via?: string) => Answered | "forwarded";

/** Domains of `forward` have resolvers of their own. */
export function asking(names: Names, forward: readonly string[] = []): Ask {
  const random = seededRandom(1);
  const routes = Object.fromEntries(forward.map((domain) => [domain, []]));
  const options = { clock: new VirtualClock(), random, log: silentLog, resolvers: [], forward: routes };
  const handlers = createHandlers(random, new OutsideResolver(options));
  return (address, name, type, via = "10.192.16.1") => {
    const question = { type: type as RecordType, name, class: "IN" } as const;
    const query = parseQuery(encode({ type: "query", id: 1, flags: 0x0100, questions: [question] }))!;
    const [source, gateway] = [ipv4(address), ipv4(via)];
    const asker = { address: source, via: gateway, names, networks: names.networksOf(source, gateway)! };
    for (const handler of handlers) {
      const answer = handler(query, asker);
      if (answer instanceof Promise) return "forwarded";
      if (answer !== undefined) return read(encodeResponse(query, answer, TCP_BYTES));
    }
    throw new Error("no handler answered");
  };
}

/** decode() says less of its result than there is. */
function read(message: Buffer): Answered {
  const packet: Packet = decode(message);
  return packet as Answered;
}

/** The code, records in order, and whose SOA came along. */
export function asText(answered: Answered | "forwarded"): string {
  if (answered === "forwarded") return answered;
  const answers = (answered.answers ?? []).map((record) => {
    if (record.type === "SRV") return `${record.data.port} ${record.data.target}`;
    if (record.type === "SOA") return `SOA ${record.data.mname}`;
    return String("data" in record ? record.data : "");
  });
  const [authority] = answered.authorities ?? [];
  return [answered.rcode, ...answers.sort(), ...(authority === undefined ? [] : [`SOA of ${authority.name}`])].join(
    " ",
  );
}
