// Ports that standards assign.

/** Questions to a DNS server, RFC 1035 section 4.2. */
export const DNS_PORT = 53;

/** Where the managers' etcd members speak with each other, as etcd is registered at IANA. */
export const STORE_PEER_PORT = 2380;

/** ESP in UDP, RFC 3948 section 2. */
export const SEALED_PORT = 4500;

/** VXLAN, RFC 7348 section 5. */
export const VXLAN_PORT = 4789;
