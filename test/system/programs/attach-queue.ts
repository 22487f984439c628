// What a user of a node might try: it becomes `nobody`, who has no capability, attaches a queue to a TUN and holds it.
// Argument: the device. Prints the errno's name when the kernel refuses; else `attached`, and `gone` once the device is.
import { constants, openSync, readSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import * as libc from "../../../src/linux/libc.ts";

const NOBODY = 65534;
const TUNSETIFF = 0x400454ca;
const TUN_WITHOUT_HEADER = 0x1001;
const VNET_HDR = 0x4000;
const MULTI_QUEUE = 0x100;
const IFREQ_BYTES = 40;
const IFNAME_BYTES = 16;

// Opened before, because the mode is 0666 on distributions and not in every container. The kernel judges at the ioctl.
const fd = openSync("/dev/net/tun", constants.O_RDWR | constants.O_NONBLOCK);
process.setgroups!([]);
process.setgid!(NOBODY);
process.setuid!(NOBODY);
const request = Buffer.alloc(IFREQ_BYTES);
request.write(process.argv[2]!);
request.writeUInt16LE(TUN_WITHOUT_HEADER | VNET_HDR | MULTI_QUEUE, IFNAME_BYTES);
if (libc.ioctl(fd, TUNSETIFF, request) < 0) {
  console.log(libc.syscallError("TUNSETIFF").code);
} else {
  console.log("attached");
  while (isThere()) await delay(20);
  console.log("gone");
}

function isThere(): boolean {
  try {
    readSync(fd, Buffer.alloc(0xffff));
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).errno !== -libc.Errno.BadFileDescriptorState;
  }
}
