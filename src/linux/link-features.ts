// The features of network interfaces, by the names that ethtool(8) shows: what they leave to a card, and what they join. ioctl(2)
// SIOCETHTOOL, include/uapi/linux/ethtool.h.
import * as libc from "./libc.ts";
import { openSocketIn } from "./network-namespace.ts";
import { Family, IFREQ_VALUE_AT, interfaceRequest, openSocket, SocketType } from "./sockets.ts";

const SIOCETHTOOL = 0x8946;
const GET_DRIVER = 0x03; // ETHTOOL_GDRVINFO
const GET_STRING_COUNTS = 0x37; // ETHTOOL_GSSET_INFO
const GET_STRINGS = 0x1b; // ETHTOOL_GSTRINGS
const GET_FEATURES = 0x3a; // ETHTOOL_GFEATURES
const SET_FEATURES = 0x3b; // ETHTOOL_SFEATURES
/** The set of strings that names features, ETH_SS_FEATURES. */
const FEATURE_STRINGS = 4;
const NAME_BYTES = 32; // ETH_GSTRING_LEN
const HEADER_BYTES = 8; // command and size
// struct ethtool_drvinfo: the driver's name is behind the command.
const DRIVER_INFO_BYTES = 196;
// A block of 32 features: masks of those that are available, requested, active and never changed; to set: valid and requested.
const BLOCK_BYTES = 16;
const ACTIVE_AT = 8;
const SET_BLOCK_BYTES = 8;

/**
 * Does `work` with the interfaces of the network namespace that has this name; undefined: of this process's. Throws SyscallError, or the
 * error of node:fs when there is no such namespace.
 */
export function withLinkFeatures<T>(netns: string | undefined, work: (features: LinkFeatures) => T): T {
  const features = new LinkFeatures(netns);
  try {
    return work(features);
  } finally {
    features.close();
  }
}

class LinkFeatures {
  readonly #fd: number;
  /** The kernel's names of features, by their numbers. */
  #names: readonly string[] = [];

  constructor(netns: string | undefined) {
    this.#fd = netns === undefined ? openSocket(Family.Inet, SocketType.Datagram) : openSocketIn(netns);
  }

  /** The features that are on. Throws SyscallError: ENODEV when there is no such interface. */
  active(link: string): ReadonlySet<string> {
    const names = this.#namesBy(link);
    const blocks = Math.ceil(names.length / 32);
    const answer = this.#ask(link, GET_FEATURES, HEADER_BYTES + blocks * BLOCK_BYTES, (request) =>
      request.writeUInt32LE(blocks, 4),
    );
    const isActive = (i: number): boolean => {
      const mask = answer.readUInt32LE(HEADER_BYTES + (i >>> 5) * BLOCK_BYTES + ACTIVE_AT);
      return ((mask >>> (i & 31)) & 1) === 1;
    };
    return new Set(names.filter((name, i) => name !== "" && isActive(i)));
  }

  /** The name of the interface's driver. Throws SyscallError: ENODEV when there is no such interface, EOPNOTSUPP when it has no driver. */
  driver(link: string): string {
    const answer = this.#ask(link, GET_DRIVER, DRIVER_INFO_BYTES, () => {});
    return answer.toString("latin1", 4, answer.indexOf(0, 4));
  }

  /** Turns the features with such names on or off. What the interface's driver refuses stays as it was. Throws SyscallError. */
  turn(link: string, features: RegExp, isOn: boolean): void {
    const names = this.#namesBy(link);
    const blocks = Math.ceil(names.length / 32);
    this.#ask(link, SET_FEATURES, HEADER_BYTES + blocks * SET_BLOCK_BYTES, (request) => {
      request.writeUInt32LE(blocks, 4);
      for (const [i, name] of names.entries()) {
        if (!features.test(name)) continue;
        const at = HEADER_BYTES + (i >>> 5) * SET_BLOCK_BYTES;
        const bit = (1 << (i & 31)) >>> 0;
        request.writeUInt32LE((request.readUInt32LE(at) | bit) >>> 0, at);
        if (isOn) request.writeUInt32LE((request.readUInt32LE(at + 4) | bit) >>> 0, at + 4);
      }
    });
  }

  close(): void {
    libc.close(this.#fd);
  }

  #namesBy(link: string): readonly string[] {
    if (this.#names.length > 0) return this.#names;
    const counted = this.#ask(link, GET_STRING_COUNTS, 20, (request) =>
      request.writeBigUInt64LE(1n << BigInt(FEATURE_STRINGS), 8),
    );
    const count = counted.readUInt32LE(16);
    const answer = this.#ask(link, GET_STRINGS, 12 + count * NAME_BYTES, (request) => {
      request.writeUInt32LE(FEATURE_STRINGS, 4);
      request.writeUInt32LE(count, 8);
    });
    this.#names = Array.from({ length: count }, (_, i) => {
      const name = answer.subarray(12 + i * NAME_BYTES, 12 + (i + 1) * NAME_BYTES);
      return name.toString("latin1").replace(/\0.*$/s, "");
    });
    return this.#names;
  }

  /** Returns the request, into which the kernel has written its answer. */
  #ask(link: string, command: number, bytes: number, fill: (request: Buffer) => void): Buffer {
    const request = Buffer.from(new ArrayBuffer(bytes));
    request.writeUInt32LE(command, 0);
    fill(request);
    const named = interfaceRequest(link);
    if (named === undefined) throw libc.syscallError(`ethtool of ${link}`, libc.Errno.NoDevice);
    named.writeBigUInt64LE(libc.addressOfBuffer(request.buffer as ArrayBuffer), IFREQ_VALUE_AT);
    libc.checked(`ethtool of ${link}`, libc.ioctl(this.#fd, SIOCETHTOOL, named));
    return request;
  }
}
