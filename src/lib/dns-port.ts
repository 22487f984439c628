// The port of DNS, RFC 1035 section 4.2: the server's, the resolvers' above it, and that of questions in the packet path.
export const DNS_PORT = 53;
