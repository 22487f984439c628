"""Datagrams between containers, all the time, each stamped with the number of the round in which it was sent. Started as a driver of
kernel.ts: a line of JSON, {"call", "args"}, is answered by one: {"result"} or {"error"}.

At each place a client asks every target, and a server answers whatever comes, again stamped. What arrives is kept until it is asked for: the
stamp, "question" or "answer", the place that sent it, the target that the client had asked, and the place where it arrived.
"""
import ctypes
import json
import os
import select
import socket
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
SERVER_PORT = 80
CLIENT_PORTS = [4000, 4001, 4002]
OWN_NETNS = os.open("/proc/self/ns/net", os.O_RDONLY)

places = {}
servers = {}
clients = {}
state = {"stamp": 0, "targets": []}
arrived = set()


def inside(netns, make):
    """What make() returns in the network namespace: sockets stay there."""
    fd = os.open(netns, os.O_RDONLY)
    try:
        if LIBC.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns to {netns}")
        return make()
    finally:
        LIBC.setns(OWN_NETNS, CLONE_NEWNET)
        os.close(fd)


def bound(address, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, port))
    s.setblocking(False)
    return s


def begin(config):
    state["targets"] = config["targets"]
    for name, (netns, address) in config["places"].items():
        places[name] = address
        servers[name] = inside(netns, lambda: bound(address, SERVER_PORT))
        clients[name] = inside(netns, lambda: [bound(address, port) for port in CLIENT_PORTS])


def stamp(number):
    """All that is sent from now on is stamped with it."""
    state["stamp"] = number


def take():
    """What has arrived since the last time."""
    taken = sorted(arrived)
    arrived.clear()
    return taken


def ask():
    for name, sockets in clients.items():
        for target in state["targets"]:
            if target != places[name]:
                for s in sockets:
                    send(s, f"{state['stamp']} {name} {target}", (target, SERVER_PORT))


def send(s, text, to):
    try:
        s.sendto(text.encode(), to)
    except BlockingIOError:
        pass  # its queue is full


def hear():
    for name, server in servers.items():
        for text, client in received(server):
            number, asker, target = text.split()
            arrived.add((int(number), "question", asker, target, name))
            send(server, f"{state['stamp']} {name} {target}", client)
    for name, sockets in clients.items():
        for s in sockets:
            for text, (visible, _) in received(s):
                number, answerer, target = text.split()
                arrived.add((int(number), "answer", answerer, visible, name))


def received(s):
    while True:
        try:
            data, source = s.recvfrom(2048)
        except BlockingIOError:
            return
        yield data.decode(), source


CALLS = {"begin": begin, "stamp": stamp, "take": take}
sys.stdin.reconfigure(line_buffering=True)
while True:
    readable, _, _ = select.select([sys.stdin.fileno()], [], [], 0.001)
    if readable:
        line = sys.stdin.readline()
        if line == "":
            break
        request = json.loads(line)
        try:
            answer = {"result": CALLS[request["call"]](*request["args"])}
        except Exception as error:  # told to the test
            answer = {"error": f"{type(error).__name__}: {error}", "mend": None}
        print(json.dumps(answer), flush=True)
    ask()
    hear()
