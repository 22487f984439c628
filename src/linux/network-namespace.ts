// Network namespaces by their names under /run/netns, as `ip netns` has them: netns(7), setns(2).
import { closeSync, openSync } from "node:fs";
import * as libc from "./libc.ts";
import { Family, openSocket, SocketType } from "./sockets.ts";

const CLONE_NEWNET = 0x40000000;

/**
 * Opens a socket in the namespace, for requests about its interfaces. This thread is there only while the socket is made. Throws
 * SyscallError, or the error of node:fs when there is no such namespace.
 */
export function openSocketIn(netns: string): number {
  const own = openSync("/proc/thread-self/ns/net", "r");
  try {
    const there = openSync(`/run/netns/${netns}`, "r");
    try {
      libc.checked(`setns to ${netns}`, libc.setns(there, CLONE_NEWNET));
      try {
        return openSocket(Family.Inet, SocketType.Datagram);
      } finally {
        // With this thread in a container's namespace everything that the agent did from here on would be done to the container.
        if (libc.setns(own, CLONE_NEWNET) < 0) process.abort();
      }
    } finally {
      closeSync(there);
    }
  } finally {
    closeSync(own);
  }
}
