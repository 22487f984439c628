// A link that carries so many bytes a second toward whoever connects: a process between two ends, as there is no device here
// that would do it.
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

/** Pieces a second. */
const PIECES = 20;

export class SlowLink {
  readonly #target: number;
  readonly #bytesPerPiece: number;
  readonly #server = createServer((socket) => this.#join(socket));
  // BOUNDED: by the test's connections.
  readonly #sockets = new Set<Socket>();

  private constructor(target: number, bytesPerSecond: number) {
    this.#target = target;
    this.#bytesPerPiece = Math.ceil(bytesPerSecond / PIECES);
  }

  /** To a port of this machine. */
  static async to(target: number, bytesPerSecond: number): Promise<SlowLink> {
    const link = new SlowLink(target, bytesPerSecond);
    link.#server.listen(0, "127.0.0.1");
    await once(link.#server, "listening");
    return link;
  }

  /** HOST:PORT. */
  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(near: Socket): void {
    const far = connect(this.#target, "127.0.0.1");
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(socket);
      socket.on("error", () => {}); // either end may go
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    near.pipe(far);
    void this.#carry(far, near);
  }

  async #carry(from: Socket, to: Socket): Promise<void> {
    from.pause();
    while (!from.destroyed && !to.destroyed) {
      const piece: Buffer | null = from.read(Math.min(this.#bytesPerPiece, from.readableLength)) ?? null;
      if (piece !== null && !to.write(piece)) await Promise.race([once(to, "drain"), once(to, "close")]);
      await delay(1000 / PIECES);
    }
  }
}
