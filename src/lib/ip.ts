// IPv4 addresses as int32 (host order, signed: a small integer to V8), and prefixes of them.

/** As an address to listen on: every address of the machine. */
export const EVERY_ADDRESS = "0.0.0.0";

/** An IPv4 address as a signed 32-bit integer: 10.0.0.1 is 0x0a000001. */
export type Ipv4 = number;

/** Stands for the ways to clients outside the overlay, where addresses stand for what a flow needs: no host has 0.0.0.1 (RFC 6890). */
export const OUTSIDE: Ipv4 = 1;

const DOT = 0x2e;
const ZERO = 0x30;

/** Reads dotted decimal; undefined when it is not an IPv4 address (leading zeros are refused). */
export function parseIpv4(text: string): Ipv4 | undefined {
  let value = 0;
  let byte = 0;
  let digits = 0;
  let dots = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === DOT) {
      if (digits === 0) return undefined;
      value = (value << 8) | byte;
      byte = 0;
      digits = 0;
      dots++;
    } else {
      const isAfterZero = digits > 0 && byte === 0;
      byte = byte * 10 + code - ZERO;
      if (code < ZERO || code > ZERO + 9 || isAfterZero || byte > 255) return undefined;
      digits++;
    }
  }
  return dots === 3 && digits > 0 ? (value << 8) | byte : undefined;
}

/** As parseIpv4, for text that was checked before. Throws RangeError. */
export function ipv4(text: string): Ipv4 {
  const value = parseIpv4(text);
  if (value === undefined) throw new RangeError(`'${text}' is not an IPv4 address`);
  return value;
}

export function formatIpv4(ip: Ipv4): string {
  return `${ip >>> 24}.${(ip >>> 16) & 255}.${(ip >>> 8) & 255}.${ip & 255}`;
}

/** An IPv4 prefix. `base` has no host bits. */
export interface Cidr {
  readonly base: Ipv4;
  readonly bits: number;
}

/** The netmask of a prefix length 0 to 32. */
export function maskOf(bits: number): Ipv4 {
  return bits === 0 ? 0 : -1 << (32 - bits);
}

/** Reads "10.0.0.0/20"; undefined when it is not a prefix or has host bits set. */
export function parseCidr(text: string): Cidr | undefined {
  const [address, length, rest] = text.split("/");
  if (address === undefined || length === undefined || rest !== undefined || !/^\d{1,2}$/.test(length))
    return undefined;
  const base = parseIpv4(address);
  const bits = Number(length);
  if (base === undefined || bits > 32 || (base & ~maskOf(bits)) !== 0) return undefined;
  return { base, bits };
}

/** As parseCidr, for text that was checked before. Throws RangeError. */
export function cidr(text: string): Cidr {
  const value = parseCidr(text);
  if (value === undefined) throw new RangeError(`'${text}' is not an IPv4 prefix`);
  return value;
}

export function formatCidr({ base, bits }: Cidr): string {
  return `${formatIpv4(base)}/${bits}`;
}

export function contains({ base, bits }: Cidr, ip: Ipv4): boolean {
  return (ip & maskOf(bits)) === base;
}

export function overlaps(a: Cidr, b: Cidr): boolean {
  return a.bits <= b.bits ? contains(a, b.base) : contains(b, a.base);
}

/** How many addresses the prefix has. */
export function sizeOf({ bits }: Cidr): number {
  return 2 ** (32 - bits);
}

/** The MAC of an overlay address: 02:42 and the four address bytes. */
export function macOf(ip: Ipv4): string {
  const bytes = [0x02, 0x42, ip >>> 24, (ip >>> 16) & 255, (ip >>> 8) & 255, ip & 255];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}
