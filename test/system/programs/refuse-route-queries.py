# Runs a command whose threads get no netlink socket of the kind with which the agent asks for routes: a seccomp filter refuses it.
# ARGUMENTS: the command.
import ctypes
import os
import platform
import struct
import sys

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
AF_NETLINK, SOCK_DGRAM = 16, 2
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM
SOCKET = 198 if platform.machine() == "aarch64" else 41
LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06  # classic BPF
NUMBER, DOMAIN, TYPE = 0, 16, 24  # in struct seccomp_data

filter = [
    (LOAD, 0, 0, NUMBER),
    (EQUAL, 0, 5, SOCKET),
    (LOAD, 0, 0, DOMAIN),
    (EQUAL, 0, 3, AF_NETLINK),
    (LOAD, 0, 0, TYPE),
    (AND, 0, 0, 0xF),
    (EQUAL, 1, 0, SOCK_DGRAM),
    (RETURN, 0, 0, ALLOW),
    (RETURN, 0, 0, REFUSE),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in filter))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(filter), ctypes.addressof(code)))
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) != 0:
    sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[1], sys.argv[1:])
