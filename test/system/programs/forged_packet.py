"""What a forged packet is made of: the packet that its flow's sender would send next, and what scapy makes of it."""
import random
import socket
import struct

from scapy.all import ICMP, IP, TCP, UDP, VXLAN, Ether, Raw
from scapy.layers.inet import IPerror, TCPerror, UDPerror

MARK = b"forged:"
TOS = 0xA8  # no kernel sends it by itself
VXLAN_PORT = 4789


class Made:
    """What a case is made of: the packet that its flow's sender would send next."""

    def __init__(self, flow, places, facts):
        self.places, self.facts = places, facts
        self.flow, self.number, self.is_tcp = flow, flow.number, flow.is_tcp
        self.sender = "client" if flow.kind["by"] == "client" else flow.server["place"]
        self.random = random.Random(facts["seed"] * 1000 + flow.number)
        client, server = places["client"]["address"], flow.server
        if flow.kind["by"] == "client":
            self.source, self.destination = client, server["visible"]
            self.ports = (flow.port, self.facts["port"])
            self.wire = (client, server["address"])
        else:
            self.source, self.destination = server["address"], client
            self.ports = (self.facts["port"], flow.port)
            self.wire = (server["address"], client)
        numbers = (flow.sequence, flow.acknowledgment)
        self.sequence, self.acknowledgment = numbers if flow.kind["by"] == "client" else numbers[::-1]

    def payload(self, length=0):
        text = MARK + struct.pack("!H", self.number)
        return Raw(text + b"." * max(0, length - len(text)))

    def ip(self, **fields):
        fields = {"src": self.source, "dst": self.destination, "id": self.number, "tos": TOS, "flags": "DF", **fields}
        return IP(**fields)

    def transport(self, **fields):
        source, destination = self.ports
        if not self.is_tcp:
            return UDP(sport=source, dport=destination, **{k: v for k, v in fields.items() if k in ("chksum", "len")})
        fields.pop("len", None)
        numbers = {"seq": self.sequence, "ack": self.acknowledgment, "flags": "PA", "window": 500}
        return TCP(sport=source, dport=destination, **{**numbers, **fields})

    def frame(self, packet, sender=None, **macs):
        place = self.places[sender or self.sender]
        return bytes(Ether(**{"src": place["mac"], "dst": place["gatewayMac"], **macs}) / packet)

    def plain(self, payload=0, **fields):
        return self.ip(**fields) / self.transport() / self.payload(payload)

    def to_ports(self, source, destination):
        """A plain packet with other ports."""
        packet = self.plain()
        packet.payload.sport, packet.payload.dport = source, destination
        return packet

    def segment(self, **fields):
        return self.ip() / self.transport(**fields) / self.payload()

    def partial(self, payload):
        """Its checksum field has the sum of the pseudo-header: a card is to do the rest."""
        text = bytes(self.payload(payload))
        length = len(self.transport()) + len(text)
        addresses = socket.inet_aton(self.source) + socket.inet_aton(self.destination)
        return self.ip() / self.transport(chksum=add(addresses, (6 if self.is_tcp else 17) + length)) / Raw(text)

    def cut(self, packet, offset, end, more):
        """A fragment: the bytes of the packet's payload from offset to end, both in units of 8."""
        whole = bytes(packet)[20:]
        flags = "MF" if more else 0
        return self.ip(flags=flags, frag=offset, proto=packet.proto) / Raw(whole[offset * 8 : end * 8])

    def icmp(self, **fields):
        """An error about a packet of the other side, as a router would send it."""
        source, destination = self.ports
        inner = TCPerror if self.is_tcp else UDPerror
        about = IPerror(src=self.destination, dst=self.source, id=self.number, proto=6 if self.is_tcp else 17)
        return self.ip() / ICMP(**fields) / about / inner(sport=destination, dport=source)

    def vxlan(self, packet, *, outer=None, to=None, vni=None, flags=8, port=VXLAN_PORT, macs=None, **fields):
        """From the host on the underlay to the node of the packet's receiver, as if the sender's node had sent it."""
        receiver = self.flow.server["node"] if self.flow.kind["by"] == "client" else "node1"
        sender = "node1" if self.flow.kind["by"] == "client" else self.flow.server["node"]
        source = outer or self.places[sender]["address"]
        target = to or self.places[receiver]["address"]
        inner_macs = macs or {"src": mac_of(packet.src), "dst": mac_of(packet.dst)}
        inner = Ether(**inner_macs) / packet
        frame = (
            Ether(src=self.places["outsider"]["mac"], dst=self.places[receiver]["mac"])
            / IP(src=source, dst=target, flags="DF", **fields)
            / UDP(sport=50000, dport=port, chksum=0)
            / VXLAN(flags=flags, vni=self.facts["vni"] if vni is None else vni)
            / inner
        )
        return [("outsider", bytes(frame), None)]

    def on_wire(self, **fields):
        return self.ip(**{"src": self.wire[0], "dst": self.wire[1], **fields})


def mac_of(address):
    return "02:42:" + ":".join(f"{part:02x}" for part in socket.inet_aton(address))


def virtio(flags=0, gso=0, header=0, size=0, start=0, offset=0):
    return struct.pack("=BBHHHH", flags, gso, header, size, start, offset)


def fixed(frame):
    """The frame with a right IPv4 header checksum, so that other faults are looked at."""
    frame = bytearray(frame)
    frame[24:26] = b"\0\0"
    frame[24:26] = struct.pack("!H", ~add(frame[14:34]) & 0xFFFF)
    return bytes(frame)


def poke(frame, at, *values):
    return frame[:at] + bytes(values) + frame[at + len(values) :]


def add(data, total=0):
    """The ones' complement sum of the words."""
    data = bytes(data) + b"\0" * (len(data) % 2)
    total += sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total
