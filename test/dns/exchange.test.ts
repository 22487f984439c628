// Asking one resolver: what comes when nobody waits for it any more.
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { setImmediate as turn } from "node:timers/promises";
import test from "ava";
import { exchangeUdp } from "../../src/dns/exchange.ts";
import { Upstream } from "../../src/dns/upstream.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

test.serial("a question that could not be sent until its time was over is not heard of again", async (t) => {
  const resolver = createSocket("udp4").bind(0, "127.0.0.1");
  await once(resolver, "listening");
  const { send } = Object.getPrototypeOf(resolver) as Socket;
  const clock = new VirtualClock();
  let canceled = 0;
  // As the system does it when it has no memory for a datagram: it is canceled with the socket.
  const sending = new Promise<void>((resolve) => {
    Object.getPrototypeOf(resolver).send = function (this: Socket, _: Buffer, done: (error: Error) => void) {
      const { close } = this;
      this.close = () => {
        setImmediate(() => {
          canceled++;
          done(new Error("send ECANCELED"));
        });
        return close.call(this);
      };
      resolve();
    };
  });
  try {
    const asked = exchangeUdp({
      upstream: new Upstream("127.0.0.1", resolver.address().port),
      query: Buffer.from("?"),
      accept: (message) => message,
      clock,
      timeoutMs: 1000,
    });
    await sending;
    await clock.advance(1000);
    t.is(await asked, undefined);
    await turn();
    await turn();
    t.is(canceled, 1);
  } finally {
    Object.getPrototypeOf(resolver).send = send;
    resolver.close();
  }
});
