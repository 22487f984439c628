// Clients outside as the express lane leads them to the agent: by the node's own address. Their flows, answers and ends.
import test from "ava";
import type { TableRow } from "../../src/datapath/rows.ts";
import { ACK, type Fields, SYN } from "../fakes/ip-packets.ts";
import { rowsFor } from "../fakes/nodes.ts";
import { A, B, brief, CLUSTER, cluster, send } from "../fakes/two-nodes.ts";

const CLIENT = "198.51.100.7";
const FAR = 9200;
const NEAR = 9201;
/** The mesh VIP of FAR, where nftables lead. */
const FAR_VIP = "10.192.0.100";
const REMOTE = "10.192.32.20";
const LOCAL = "10.192.32.10";

const ask = (destinationPort: number, fields: Partial<Fields> = {}): Fields => ({
  ...{ source: CLIENT, destination: A, sourcePort: 40_000, destinationPort, flags: SYN, sequence: 1000 },
  ...fields,
});
const answer = (source: string, fields: Partial<Fields> = {}): Fields => ({
  ...{ source, destination: CLIENT, sourcePort: 80, destinationPort: 40_000 },
  ...{ flags: SYN | ACK, sequence: 5000, acknowledgment: 1001, ...fields },
});

test("a client is led to a task of another node, and of this one, and hears from the address that it asked", async (t) => {
  const fake = await cluster();
  const there = send(fake, 0, ask(FAR));
  t.deepEqual(there.out[1]!.map(brief), [`${CLIENT}:40000 > ${REMOTE}:80`]);
  t.deepEqual(send(fake, 1, answer(REMOTE)).out[0]!.map(brief), [`${A}:${FAR} > ${CLIENT}:40000`]);
  t.deepEqual(send(fake, 0, ask(NEAR)).out[0]!.map(brief), [`${CLIENT}:40000 > ${LOCAL}:80`]);
  t.deepEqual(send(fake, 0, answer(LOCAL)).out[0]!.map(brief), [`${A}:${NEAR} > ${CLIENT}:40000`]);
});

test("an error of the task's node comes to the client from the address that it asked: it has no way to one of the overlay", async (t) => {
  const fake = await cluster();
  send(fake, 0, ask(FAR));
  const { out } = send(fake, 0, ask(FAR, { flags: ACK, ttl: 1 }));
  const errors = out[0]!.map(({ source, destination, protocol }) => [source, destination, protocol]);
  t.deepEqual(errors, [[A, CLIENT, 1]]); // ICMP
});

test("a port that no service publishes, or that has no task, is closed", async (t) => {
  const fake = await cluster();
  for (const port of [9999, 9202]) {
    const [out] = send(fake, 0, ask(port)).out;
    t.deepEqual(out!.map(brief), [`${A}:${port} > ${CLIENT}:40000`]);
    t.is(out![0]!.flags & 4, 4, "a reset");
  }
});

test("a connection that nftables led goes on when the lane leads it: its answers bear the node's address", async (t) => {
  const fake = await cluster();
  send(fake, 0, ask(FAR, { destination: FAR_VIP }));
  send(fake, 1, answer(REMOTE));
  const segment = { flags: ACK, sequence: 1001, acknowledgment: 5001 };
  t.deepEqual(send(fake, 0, ask(FAR, segment)).out[1]!.map(brief), [`${CLIENT}:40000 > ${REMOTE}:80`]);
  t.is(fake.nodes[0]!.flows().length, 1);
  t.is(fake.nodes[0]!.flows()[0]!.destination, `${A}:${FAR}`);
  const back = send(fake, 1, answer(REMOTE, { flags: ACK, sequence: 5001 }));
  t.deepEqual(back.out[0]!.map(brief), [`${A}:${FAR} > ${CLIENT}:40000`]);
  t.regex(back.out[0]![0]!.transportChecksum, /^(right|partial)$/);
});

test("a connection that the lane led goes on when nftables lead it", async (t) => {
  const fake = await cluster();
  send(fake, 0, ask(FAR));
  send(fake, 1, answer(REMOTE));
  const segment = { destination: FAR_VIP, flags: ACK, sequence: 1001, acknowledgment: 5001 };
  t.deepEqual(send(fake, 0, ask(FAR, segment)).out[1]!.map(brief), [`${CLIENT}:40000 > ${REMOTE}:80`]);
  t.deepEqual(
    fake.nodes[0]!.flows().map(({ destination }) => destination),
    [`${A}:${FAR}`],
  );
});

test("a SYN begins a flow by the name that it bears", async (t) => {
  const fake = await cluster();
  send(fake, 0, ask(FAR, { destination: FAR_VIP }));
  send(fake, 0, ask(FAR));
  t.is(fake.nodes[0]!.flows().length, 2);
});

test("the connections of a port end when its service gives it up, and no others", async (t) => {
  const fake = await cluster();
  for (const [port, task] of [
    [FAR, REMOTE],
    [NEAR, LOCAL],
  ] as const) {
    send(fake, 0, ask(port, { sourcePort: port }));
    send(fake, task === REMOTE ? 1 : 0, answer(task, { destinationPort: port }));
  }
  const rows = rowsFor(CLUSTER, A).map(
    (row): TableRow =>
      row.kind === "vip" && row.ports?.some(({ published }) => published === NEAR) === true
        ? { ...row, ports: [] }
        : row,
  );
  fake.nodes[0]!.apply(rows);
  await fake.advance(1000);
  t.deepEqual(
    fake.nodes[0]!.flows().map(({ destination }) => destination),
    [`${A}:${FAR}`],
  );
});

test("a container is no client outside, whatever address it asks", async (t) => {
  const fake = await cluster();
  send(fake, 0, { source: LOCAL, destination: B, sourcePort: 4000, destinationPort: FAR, flags: SYN });
  t.is(fake.nodes[0]!.flows()[0]!.destination, `${B}:${FAR}`);
});
