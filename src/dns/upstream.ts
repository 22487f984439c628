// One resolver above us: how it is written, asking it once over UDP or TCP, and what is remembered of its health.
import { createSocket } from "node:dgram";
import { connect, isIP, isIPv6 } from "node:net";
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import { TcpFrames } from "./tcp-frames.ts";

const DNS_PORT = 53;
const DOWN_AFTER_FAILURES = 2;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

export class Upstream {
  readonly address: string;
  readonly port: number;
  #failures = 0;
  #pausedUntilMs = Number.NEGATIVE_INFINITY;

  constructor(address: string, port: number) {
    this.address = address;
    this.port = port;
  }

  get name(): string {
    return `${this.address}#${this.port}`;
  }

  /** Whether to ask it before those that failed lately. */
  isHealthy(nowMs: number): boolean {
    return nowMs >= this.#pausedUntilMs;
  }

  answered(): void {
    this.#failures = 0;
    this.#pausedUntilMs = Number.NEGATIVE_INFINITY;
  }

  failed(nowMs: number): void {
    this.#failures++;
    const beyond = this.#failures - DOWN_AFTER_FAILURES;
    if (beyond >= 0)
      this.#pausedUntilMs = nowMs + Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(beyond, 10));
  }
}

/** Reads `ADDRESS`, `IPV4:PORT` or `[IPV6]:PORT`; undefined when it is none of them. */
export function parseUpstream(text: string): Upstream | undefined {
  if (isIP(text) !== 0) return new Upstream(text, DNS_PORT);
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const address = match?.[1] ?? match?.[2] ?? "";
  const port = Number(match?.[3]);
  if (isIP(address) !== (match?.[1] === undefined ? 4 : 6) || port < 1 || port > 65535) return undefined;
  return new Upstream(address, port);
}

/** The name servers of a resolv.conf(5) text, in its order. */
export function nameserversOf(resolvConf: string): string[] {
  const servers: string[] = [];
  for (const line of resolvConf.split("\n")) {
    const match = /^nameserver[ \t]+(\S+)/.exec(line);
    if (match !== null && isIP(match[1]!) !== 0) servers.push(match[1]!);
  }
  return servers;
}

/** Reads a datagram or TCP message into what was asked for; undefined: not that, wait on. */
export type Accept<T> = (message: Buffer) => T | undefined;

/** Sends `query` from a port of its own and waits for what `accept` takes. Throws when none comes in time. */
export function exchangeUdp<T>(
  upstream: Upstream,
  query: Buffer,
  accept: Accept<T>,
  clock: Clock,
  timeoutMs: number,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv6(upstream.address) ? "udp6" : "udp4");
    socket.unref(); // an agent that stops does not wait for a resolver
    const timer = clock.after(timeoutMs, () => fail(new Error(`no answer in ${timeoutMs} ms`)));
    const finish = () => {
      timer.cancel();
      socket.removeAllListeners();
      socket.on("error", () => {}); // of a send that was under way: nobody waits for it any more
      socket.close();
    };
    const fail = (error: unknown) => {
      finish();
      reject(new Error(`${upstream.name} over UDP: ${messageOf(error)}`, { cause: error }));
    };
    socket.once("error", fail);
    socket.on("message", (message) => {
      const accepted = accept(message);
      if (accepted === undefined) return;
      finish();
      resolve(accepted);
    });
    // Connected, so that the kernel takes datagrams from that server only and reports a closed port at once.
    socket.once("connect", () => {
      socket.send(query, (error) => {
        if (error !== null) fail(error);
      });
    });
    socket.connect(upstream.port, upstream.address);
  });
}

/** As exchangeUdp, over a TCP connection of its own. */
export function exchangeTcp<T>(
  upstream: Upstream,
  query: Buffer,
  accept: Accept<T>,
  clock: Clock,
  timeoutMs: number,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: upstream.port, host: upstream.address });
    socket.unref();
    const frames = new TcpFrames();
    const timer = clock.after(timeoutMs, () => socket.destroy(new Error(`no answer in ${timeoutMs} ms`)));
    socket.on("connect", () => socket.write(TcpFrames.frame(query)));
    socket.on("data", (chunk) => {
      frames.push(chunk);
      for (let message = frames.next(); message !== undefined; message = frames.next()) {
        const accepted = accept(message);
        if (accepted === undefined) continue;
        resolve(accepted);
        socket.destroy();
        return;
      }
    });
    let cause: unknown = new Error("closed without an answer");
    socket.on("error", (error) => {
      cause = error;
    });
    socket.on("close", () => {
      timer.cancel();
      reject(new Error(`${upstream.name} over TCP: ${messageOf(cause)}`, { cause })); // nothing, when it was resolved
    });
  });
}
