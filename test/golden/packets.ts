// Frames and packets as the RFCs draw them, field by field. Their checksums were made apart from this code.

/** Reads lines of "HEX DIGITS | what they are". */
function bytes(text: string): Uint8Array {
  const digits = text.replace(/\|.*$/gm, "").replace(/\s/g, "");
  return Uint8Array.from(Buffer.from(digits, "hex"));
}

const VXLAN = `
  08 00 00 00               | RFC 7348 section 5: flags, the I bit, and reserved
  00 10 00 00               | VNI 4096, reserved
`;

/** 10.192.32.20 asks for 10.192.32.10. */
export const ARP_REQUEST = bytes(`${VXLAN}
  ff ff ff ff ff ff         | Ethernet destination: broadcast
  02 42 0a c0 20 14         | source
  08 06                     | ARP
  00 01 08 00 06 04         | RFC 826: Ethernet, IPv4, 6 and 4 bytes of address
  00 01                     | request
  02 42 0a c0 20 14         | sender hardware address
  0a c0 20 14               | sender protocol address
  00 00 00 00 00 00         | target hardware address: not known
  0a c0 20 0a               | target protocol address
`);

export const ARP_REPLY = bytes(`${VXLAN}
  02 42 0a c0 20 14         | to who asked
  02 42 0a c0 20 0a
  08 06
  00 01 08 00 06 04
  00 02                     | reply
  02 42 0a c0 20 0a         | sender: what was asked for
  0a c0 20 0a
  02 42 0a c0 20 14         | target: who asked
  0a c0 20 14
`);

/** A SYN from 10.192.32.10:40000 to 10.192.32.20:80 with Linux's options. */
export const TCP_SYN = bytes(`
  45 00 00 3c               | RFC 791 section 3.1: version 4, 5 words; TOS 0; 60 bytes
  1c 46 40 00               | identification, DF
  40 06 c8 d8               | TTL 64, TCP, header checksum
  0a c0 20 0a
  0a c0 20 14
  9c 40 00 50               | RFC 9293 section 3.1: ports
  12 34 56 78               | sequence number
  00 00 00 00               | acknowledgment number
  a0 02 fa f0               | 10 words, SYN, window 64240
  0f f3 00 00               | checksum, urgent pointer
  02 04 05 b4               | maximum segment size 1460
  04 02                     | SACK permitted
  08 0a 00 01 e2 40 00 00 00 00 | timestamps
  01                        | no operation
  03 03 07                  | window scale 7
`);

export const UDP_HELLO = bytes(`
  45 00 00 21
  00 01 00 00
  40 11 25 2e
  0a c0 20 0a
  0a c0 20 14
  c0 00 00 35               | RFC 768: ports 49152 and 53
  00 0d a6 2e               | length 13, checksum
  68 65 6c 6c 6f            | "hello"
`);

export const ICMP_ECHO = bytes(`
  45 00 00 24
  00 00 40 00
  40 01 e5 3b
  0a c0 20 0a
  0a c0 20 14
  08 00 3d 20               | RFC 792: echo, checksum
  00 2a 00 07               | identifier 42, sequence number 7
  6f 76 65 72 6c 61 79 64   | "overlayd"
`);

/** The router 192.0.2.12 tells the SYN's sender that the next hop takes 1400 bytes. */
export const ICMP_TOO_BIG = bytes(`
  45 c0 00 38               | internetwork control, RFC 1812 section 4.3.2.5
  00 00 00 00
  40 01 8d 2f
  c0 00 02 0c
  0a c0 20 0a
  03 04 f2 46               | RFC 1191 section 4: fragmentation needed
  00 00 05 78               | next-hop MTU 1400
  45 00 00 3c               | the packet's header and 8 bytes of its data
  1c 46 40 00
  40 06 c8 d8
  0a c0 20 0a
  0a c0 20 14
  9c 40 00 50
  12 34 56 78
`);

/** 192.0.2.11 says that its session is Up, in VXLAN's management VNI. */
export const BFD_UP = bytes(`
  08 00 00 00
  00 00 01 00               | RFC 8971 section 4: the management VNI
  00 00 5e 00 52 02         | RFC 8971 section 3: the MAC of BFD over VXLAN
  02 42 c0 00 02 0b
  08 00
  45 c0 00 34
  00 00 40 00
  ff 11 39 ec               | TTL 255, UDP
  c0 00 02 0b
  7f 00 00 01               | RFC 8971 section 3: an address of 127/8
  c0 00 0e c8               | RFC 5881 section 4: a port from 49152 on, 3784
  00 20 a4 34
  20 c0 03 18               | RFC 5880 section 4.1: version 1, no diagnostic; Up; multiplier 3; 24 bytes
  00 00 00 01               | my discriminator
  00 00 00 02               | your discriminator
  00 04 93 e0               | desired min TX, 300,000 microseconds
  00 04 93 e0               | required min RX
  00 00 00 00               | required min echo RX
`);
/** Where the BFD packet begins in it. */
export const BFD_UP_AT = 8 + 14 + 20 + 8;
