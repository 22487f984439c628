// By which links clients outside are answered in the lane, and which are left to the agent.
import test from "ava";
import { ClientWays } from "../../src/express/client-ways.ts";
import { ipv4 } from "../../src/lib/ip.ts";

const CLIENT = ipv4("203.0.113.9");
const OWN = ipv4("192.0.2.11");
const LINK = 7;

interface Machine {
  link?: number;
  isByRouter?: boolean;
  /** Of the route. */
  mtu?: number;
  /** undefined: it has no Ethernet frames, or has gone. */
  facts?: { mtu: number; isVirtual: boolean; cutsTunnels: boolean } | undefined;
}
const CARD = { mtu: 1500, isVirtual: false, cutsTunnels: true };
const VETH = { ...CARD, isVirtual: true };

function clientWays({ link = LINK, isByRouter = false, mtu = 0, ...rest }: Machine): {
  ways: ClientWays;
  asked: string[];
} {
  const asked: string[] = [];
  const linkTo = (address: number, source = 0): number => {
    asked.push(`${address === CLIENT} ${source === OWN}`);
    return link;
  };
  const facts = "facts" in rest ? rest.facts : CARD;
  return { ways: new ClientWays({ linkTo, isByRouter, mtu }, () => facts), asked };
}

const WAYS: [title: string, machine: Machine, link: number, mtu: number, heedsTunnelMark: boolean][] = [
  ["a card that cuts tunnels' frames", { facts: CARD }, LINK, 1500, true],
  ["such a card, by a router", { facts: CARD, isByRouter: true }, LINK, 1500, true],
  ["a card that cuts none", { facts: { ...CARD, cutsTunnels: false } }, LINK, 1500, false],
  ["a veth pair", { facts: VETH }, LINK, 1500, false],
  ["a route with an MTU of its own", { facts: VETH, mtu: 1300 }, LINK, 1300, false],
];
for (const [title, machine, link, mtu, heedsTunnelMark] of WAYS) {
  test(`${title}: the lane answers`, (t) => {
    t.deepEqual(clientWays(machine).ways.find(CLIENT, OWN), { link, mtu, heedsTunnelMark });
  });
}

for (const [title, machine] of [
  ["no route", { link: 0 }],
  ["a link without Ethernet frames", { facts: undefined }],
  ["a router beyond a veth pair, which may have a card that heeds a tunnel's mark", { facts: VETH, isByRouter: true }],
] as const) {
  test(`${title}: the agent answers`, (t) => {
    t.is(clientWays(machine).ways.find(CLIENT, OWN).link, 0);
  });
}

test("the kernel is asked once for what an address of this node sends to a client, until that is forgotten", (t) => {
  const { ways, asked } = clientWays({});
  ways.find(CLIENT, OWN);
  ways.find(CLIENT, OWN);
  t.deepEqual(asked, ["true true"]);
  ways.find(CLIENT, OWN + 1);
  t.is(asked.length, 2);
  ways.forget();
  ways.find(CLIENT, OWN);
  t.is(asked.length, 3);
});
