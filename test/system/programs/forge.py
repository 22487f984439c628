"""Sends packets that no honest container sends, and tells where each arrived. Started by express-closed.test.ts, as a driver of kernel.ts:
a line of JSON, {"call", "args"}, is answered by one: {"result"} or {"error"}.

Each packet has a number, which is its IPv4 identification and is in its payload; its case says what is wrong with it. A packet is of a flow
of its own, so that it spoils no other's.
"""
import ctypes
import itertools
import json
import os
import select
import socket
import sys
import time

from forged_arrivals import SOL_PACKET, change, drain, inner_of, is_void, number_of
from forged_cases import cases
from forged_packet import Made

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
PACKET_AUXDATA, PACKET_VNET_HDR = 8, 15
SO_RCVBUFFORCE = 33
RECEIVE_BYTES = 1 << 26
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, REPAIR_OFF_NO_PROBE = 19, 20, 21, -1
RECEIVED, SENT = 1, 2
FIRST_NUMBER = 0x4000
STEP = 8  # segments of a super-packet have the next numbers
BARRIERS = 16
BATCH = 64  # flows that say something at once: a server's queue and those of the agents hold as much
AGAIN_S = 0.2
DEADLINE_S = 150
OWN_NETNS = os.open("/proc/self/ns/net", os.O_RDONLY)

places = {}
facts = {}
flows = {}
barriers = []
lines = itertools.count()


def inside(place, make):
    """What make() returns in the place's network namespace: sockets stay there."""
    fd = os.open(places[place]["netns"], os.O_RDONLY)
    try:
        if LIBC.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns to {place}")
        return make()
    finally:
        LIBC.setns(OWN_NETNS, CLONE_NEWNET)
        os.close(fd)


def packet_socket(link, virtio=False):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    if virtio:
        s.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    s.bind((link, 0 if virtio else ETH_P_ALL))
    s.setblocking(False)
    return s


def raw_socket(protocol):
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    s.setblocking(False)
    return s


def begin(config):
    """`places`: where packets come from and arrive. A container and a host of the underlay have a link; a node is watched at its
    underlay's link, for what leaves it, and above its stack."""
    places.update(config.pop("places"))
    facts.update(config)
    for name, place in places.items():
        place["send"] = inside(name, lambda: packet_socket("eth0"))
        place["send virtio"] = inside(name, lambda: packet_socket("eth0", True))
        place["hosts"] = []
        if place["kind"] == "node":
            protocols = [socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP]
            place["hosts"] = inside(name, lambda: [raw_socket(p) for p in protocols])


class Flow:
    def __init__(self, kind, number, port, case):
        self.kind, self.number, self.port, self.case = kind, number, port, case
        self.server = facts["servers"][kind["server"]]
        self.is_tcp = kind["protocol"] == "tcp"
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM if self.is_tcp else socket.SOCK_DGRAM)
        self.socket.settimeout(DEADLINE_S)
        self.socket.bind((places["client"]["address"], self.port))
        self.socket.connect((self.server["visible"], facts["port"]))

    @property
    def title(self):
        return f"{self.kind['protocol']} to {self.kind['server']} by the {self.kind['by']}: {self.case}"

    def fix(self):
        """The numbers that the next segments of both sides have."""
        if not self.is_tcp:
            self.sequence = self.acknowledgment = 0
            return
        option = lambda *words: self.socket.setsockopt(socket.IPPROTO_TCP, *words)
        option(TCP_REPAIR, 1)
        numbers = []
        for queue in (SENT, RECEIVED):
            option(TCP_REPAIR_QUEUE, queue)
            numbers.append(self.socket.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) & 0xFFFFFFFF)
        option(TCP_REPAIR, REPAIR_OFF_NO_PROBE)
        self.sequence, self.acknowledgment = numbers


def open_flows(first_port):
    """A flow for each case of each kind; returns how many there are. The flows of before end."""
    flows.clear()
    barriers.clear()
    kinds = facts["kinds"]
    wanted = [(kind, case) for kind in kinds for case in sorted(cases(places, facts))]

    def open_all():
        for at, (kind, case) in enumerate(wanted):
            number = FIRST_NUMBER + STEP * at
            flows[number] = Flow(kind, number, first_port + at, case)
        for at in range(BARRIERS):
            kind = {**kinds[at % len(kinds)], "protocol": "udp"}
            barriers.append(Flow(kind, 0, first_port + len(wanted) + at, "a barrier"))

    inside("client", open_all)
    return len(flows) + len(barriers)


def talk():
    """Both sides of each flow say something."""
    everyone = [*flows.values(), *barriers]
    for at in range(0, len(everyone), BATCH):
        exchange(everyone[at : at + BATCH])


def exchange(some):
    """Each of these flows says a line, again if need be, until it hears it again."""
    text = b"line %d\n" % next(lines)
    quiet = {flow.socket.fileno(): flow for flow in some}
    poll = select.poll()
    for fd in quiet:
        poll.register(fd, select.POLLIN)
    end = time.monotonic() + DEADLINE_S
    while quiet:
        for flow in quiet.values():
            flow.socket.send(text)
        again = time.monotonic() + AGAIN_S
        while quiet and (left := again - time.monotonic()) > 0:
            for fd, _ in poll.poll(1000 * left):
                if text in quiet[fd].socket.recv(4096):
                    poll.unregister(fd)
                    del quiet[fd]
        if time.monotonic() > end:
            first = next(iter(quiet.values()))
            raise TimeoutError(f"{len(quiet)} flows got no answer, '{first.title}' from port {first.port} among them")


def send_all():
    """Sends every case's frames. Returns what arrived of each, by the flow's title: a sorted list of texts; and what the kernel refused to
    send."""
    for flow in flows.values():
        flow.fix()
    drain(places, lambda *_: None)
    makers = cases(places, facts)
    sent, arrived, refused = {}, {}, []

    def note(place, packet, status):
        number = number_of(packet)
        if number is not None:
            number -= number % STEP
        if number not in sent or is_void(packet, status):
            return
        arrived.setdefault(number, set()).add(f"{place}: {change(sent[number], packet)}")

    for at, (number, flow) in enumerate(flows.items()):
        frames = makers[flow.case](Made(flow, places, facts))
        sent[number] = [inner_of(frame) if place == "outsider" else frame[14:] for place, frame, _ in frames]
        for place, frame, header in frames:
            try:
                if header is None:
                    places[place]["send"].send(frame)
                else:
                    places[place]["send virtio"].send(header + frame)
            except OSError as error:
                refused.append(f"{flow.title}: {error.strerror}")
        if at % BATCH == 0:
            exchange(barriers)
            drain(places, note)
    # What is sent by each of the ways now comes after what was sent before; the second time, after the answers to that too.
    for _ in range(2):
        exchange(barriers)
    drain(places, note)
    texts = {flow.title: sorted(arrived.get(number, [])) for number, flow in flows.items()}
    return {"arrived": texts, "refused": refused}


CALLS = {"begin": begin, "open": open_flows, "talk": talk, "sendAll": send_all}
for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = {"result": CALLS[request["call"]](*request["args"])}
    except Exception as error:  # told to the test
        answer = {"error": f"{type(error).__name__}: {error}", "mend": None}
    print(json.dumps(answer), flush=True)
