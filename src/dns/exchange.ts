// Asks one resolver once, over UDP or TCP.
import { createSocket } from "node:dgram";
import { connect, isIPv6 } from "node:net";
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import { TcpFrames } from "./tcp-frames.ts";
import type { Upstream } from "./upstream.ts";

export interface Exchange<T> {
  readonly upstream: Upstream;
  readonly query: Buffer;
  /** Reads a datagram or TCP message. undefined: it is not the answer, which may still come. */
  readonly accept: (message: Buffer) => T | undefined;
  readonly clock: Clock;
  readonly timeoutMs: number;
}

/**
 * Sends `query` from a port of its own and waits for what `accept` takes. undefined when none comes in time. Throws when
 * the resolver cannot be reached.
 */
export function exchangeUdp<T>({ upstream, query, accept, clock, timeoutMs }: Exchange<T>): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv6(upstream.address) ? "udp6" : "udp4");
    socket.unref(); // an agent that stops does not wait for a resolver
    const finish = (result: T | undefined) => {
      timer.cancel();
      socket.removeAllListeners();
      socket.on("error", () => {}); // of a send that was under way, which nothing waits for any more
      socket.close();
      resolve(result);
    };
    const timer = clock.after(timeoutMs, () => finish(undefined));
    socket.once("error", (error) => {
      reject(new Error(`UDP: ${messageOf(error)}`, { cause: error }));
      finish(undefined);
    });
    socket.on("message", (message) => {
      const accepted = accept(message);
      if (accepted !== undefined) finish(accepted);
    });
    // Connected, so that the kernel takes datagrams from that server only and reports a closed port at once.
    socket.once("connect", () => {
      socket.send(query, (error) => {
        if (error !== null) socket.emit("error", error);
      });
    });
    socket.connect(upstream.port, upstream.address);
  });
}

/** As exchangeUdp, over a TCP connection of its own. */
export function exchangeTcp<T>({ upstream, query, accept, clock, timeoutMs }: Exchange<T>): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: upstream.port, host: upstream.address });
    socket.unref();
    const frames = new TcpFrames();
    const finish = (result: T | undefined) => {
      resolve(result);
      socket.destroy();
    };
    const timer = clock.after(timeoutMs, () => finish(undefined));
    socket.on("connect", () => socket.write(TcpFrames.frame(query)));
    socket.on("data", (chunk) => {
      frames.push(chunk);
      for (let message = frames.next(); message !== undefined; message = frames.next()) {
        const accepted = accept(message);
        if (accepted !== undefined) return finish(accepted);
      }
    });
    let cause: unknown = new Error("closed without an answer");
    socket.on("error", (error) => {
      cause = error;
    });
    socket.on("close", () => {
      timer.cancel();
      reject(new Error(`TCP: ${messageOf(cause)}`, { cause })); // does nothing after finish()
    });
  });
}
