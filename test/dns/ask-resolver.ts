// A resolver under a clock that the test moves, and questions to it.
import { setTimeout as realTime, setImmediate } from "node:timers/promises";
import { type DecodedPacket, decode, encode, type Packet } from "dns-packet";
import { type Answer, encodeResponse, parseQuery, TCP_BYTES } from "../../src/dns/message.ts";
import { Names } from "../../src/dns/names.ts";
import { OutsideResolver } from "../../src/dns/resolver.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { silentLog } from "../../src/lib/log.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { exampleState } from "./example-state.ts";
import { type Behaviour, FakeUpstream } from "./fake-upstream.ts";

const TURNS = 10;
const names = new Names(exampleState);

export function resolverTo(resolvers: string[], forward: Record<string, string[]> = {}, log = silentLog) {
  const clock = new VirtualClock();
  return { clock, forwarder: new OutsideResolver({ clock, random: seededRandom(7), log, resolvers, forward }) };
}

interface AskOptions {
  client?: string;
  type?: "A" | "TXT";
  recursion?: boolean;
  /** The client's own resolvers. */
  servers?: string[];
  /** Moves time while waiting. */
  clock?: VirtualClock;
}

export async function ask(forwarder: OutsideResolver, name: string, options: AskOptions = {}) {
  const { client = "10.192.16.31", type = "A", recursion = true, servers = [], clock } = options;
  const flags = recursion ? 0x0100 : 0;
  const query = parseQuery(encode({ type: "query", id: 99, flags, questions: [{ type, name }] }))!;
  const networks = names.networksOf(ipv4(client), ipv4("10.192.16.1"))!;
  const answer = forwarder.resolve(query, {
    address: ipv4(client),
    via: ipv4("10.192.16.1"),
    names,
    networks,
    servers,
  });
  const settled = clock === undefined ? await answer : await whileTimePasses(clock, answer);
  return decode(encodeResponse(query, settled, TCP_BYTES)) as DecodedPacket & { rcode: string };
}

async function whileTimePasses(clock: VirtualClock, answer: Answer | Promise<Answer>): Promise<Answer> {
  let settled: Answer | undefined;
  void Promise.resolve(answer).then((value) => {
    settled = value;
  });
  while (settled === undefined) {
    await clock.advance(50);
    // The sockets' time is real, and both ends are in this process: they need their turns before 50 ms of the clock's time pass.
    await realTime(2);
    for (let turn = 0; turn < TURNS; turn++) await setImmediate();
  }
  return settled;
}

export function addressOf(packet: Packet): unknown {
  const record = packet.answers?.find(({ type }) => type === "A");
  return record?.type === "A" ? record.data : undefined;
}

export async function upstream(
  t: { teardown(stop: () => void): void },
  behaviour: Behaviour,
  address?: string,
): Promise<FakeUpstream> {
  const server = await FakeUpstream.start(behaviour, address);
  t.teardown(() => server.stop());
  return server;
}

export const silent: Behaviour = () => undefined;

export function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
