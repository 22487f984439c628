// Ports that standards assign.

/** Questions to a DNS server, RFC 1035 section 4.2. */
export const DNS_PORT = 53;

/** VXLAN, RFC 7348 section 5. */
export const VXLAN_PORT = 4789;
