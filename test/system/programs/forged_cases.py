"""The kinds of packets that no honest container sends, and some that it does: what forge.py sends in each kind of flow."""
import socket

from forged_packet import TOS, VXLAN_PORT, fixed, mac_of, poke, virtio
from scapy.all import ARP, GRE, ICMP, IP, TCP, UDP, VXLAN, Dot1Q, Ether, IPv6, Raw
from scapy.layers.inet import IPOption

UNUSED_PORT = 9


def cases(places, facts):
    """The name of each case, and what makes its frames: each the place that it leaves, its bytes, and the virtio header or None."""
    found = {}

    def one(name, make, sender=None):
        def build(m):
            packet = make(m)
            frame = packet if isinstance(packet, bytes) else m.frame(packet, sender)
            return [(sender or m.sender, frame, None)]

        found[name] = build

    def many(name, make):
        found[name] = lambda m: [(m.sender, m.frame(packet), None) for packet in make(m)]

    def card(name, header, make):
        found[name] = lambda m: [(m.sender, m.frame(make(m)), header(m))]

    address = lambda name: places[name]["address"]
    one("plain", lambda m: m.plain())
    one("plain, full", lambda m: m.plain(payload=1450 - 40 if m.is_tcp else 1450 - 28))
    one("without payload", lambda m: m.ip() / m.transport())
    # Addresses
    others = ["near", "far", "blue near", "blue far", "node1", "node2", "outsider"]
    for name in others:
        one(f"source of {name}", lambda m, name=name: m.plain(src=address(name)))
        one(f"to {name}", lambda m, name=name: m.plain(dst=address(name)))
    for name, value in facts["addresses"].items():
        one(f"source of {name}", lambda m, value=value: m.plain(src=value))
        one(f"to {name}", lambda m, value=value: m.plain(dst=value))
    one("to itself", lambda m: m.plain(dst=m.source))
    for name in ["near", "far", "blue near", "blue far"]:
        one(f"by {name}", lambda m, name=name: m.frame(m.plain(), name), name)
    # A way of its own over the underlay
    for to, outer in [("node2", "client"), ("node2", "node1"), ("node1", "node2")]:
        one(
            f"VXLAN in UDP from {outer} to {to}",
            lambda m, to=to, outer=outer: m.ip(src=address(outer), dst=address(to))
            / UDP(sport=50000, dport=VXLAN_PORT)
            / VXLAN(flags=8, vni=facts["vni"])
            / Ether(src=mac_of(m.wire[0]), dst=mac_of(m.wire[1]))
            / m.on_wire()
            / m.transport()
            / m.payload(),
        )
    # Frames
    one("to another MAC", lambda m: m.frame(m.plain(), dst="02:00:00:00:00:99"))
    one("to the broadcast MAC", lambda m: m.frame(m.plain(), dst="ff:ff:ff:ff:ff:ff"))
    one("to a multicast MAC", lambda m: m.frame(m.plain(), dst="01:00:5e:00:00:01"))
    one("from another MAC", lambda m: m.frame(m.plain(), src=mac_of(address("near"))))
    one("tagged", lambda m: m.frame(Dot1Q(vlan=100) / m.plain()))
    one("tagged for priority", lambda m: m.frame(Dot1Q(vlan=0, prio=5) / m.plain()))
    one("tagged twice", lambda m: m.frame(Dot1Q(vlan=1) / Dot1Q(vlan=2) / m.plain()))
    one("another EtherType", lambda m: m.frame(m.plain(), type=0x88B5))
    one("IPv4 in the EtherType of IPv6", lambda m: m.frame(m.plain(), type=0x86DD))
    one("ARP for the server", lambda m: m.frame(ARP(psrc=m.source, pdst=m.destination) / m.payload(), type=0x0806))
    one("ARP as another", lambda m: m.frame(ARP(op=2, psrc=address("near"), pdst=m.source) / m.payload(), type=0x0806))
    for name, to in [("neighbours", "ff02::1"), ("an IPv4 address", "::ffff:" + address("far"))]:
        one(f"IPv6 to {name}", lambda m, to=to: IPv6(src="fe80::1", dst=to) / UDP(sport=1, dport=7) / m.payload())
    # IPv4
    one("options", lambda m: m.plain(options=[IPOption(b"\x01\x01\x01\x01")]))
    one("source route", lambda m: m.plain(options=[IPOption(b"\x83\x07\x04" + socket.inet_aton(address("blue far")))]))
    one("an option too long", lambda m: m.plain(options=[IPOption(b"\x44\xff\x05\x00")]))
    one("header too short", lambda m: fixed(poke(m.frame(m.plain()), 14, 0x44)))
    one("header too long", lambda m: fixed(poke(m.frame(m.plain()), 14, 0x4F)))
    one("version 5", lambda m: fixed(poke(m.frame(m.plain()), 14, 0x55)))
    for ttl in (0, 1, 2, 255):
        one(f"TTL {ttl}", lambda m, ttl=ttl: m.plain(ttl=ttl))
    for ecn in (1, 2, 3):
        one(f"ECN {ecn}", lambda m, ecn=ecn: m.plain(tos=TOS | ecn))
    one("the reserved bit", lambda m: m.plain(flags=4))
    one("may be cut", lambda m: m.plain(flags=0))
    one("a wrong header checksum", lambda m: m.plain(chksum=0x1234))
    for name, change in [("0", 0), ("20", 20), ("27", 27)]:
        one(f"length {name}", lambda m, change=change: m.plain(len=change))
    one("longer than it says", lambda m: m.frame(m.plain()) + b"behind it")
    one("shorter than it says", lambda m: m.frame(m.plain(payload=100))[:-30])
    for name, protocol in [("SCTP", 132), ("hop by hop", 0), ("another protocol", 253)]:
        one(name, lambda m, protocol=protocol: m.plain(proto=protocol))
    one("IP in IP", lambda m: m.ip(dst=address("node2"), proto=4) / m.plain())
    one("GRE", lambda m: m.ip(dst=address("node2")) / GRE() / m.plain())
    # Fragments
    many("first fragment only", lambda m: [m.cut(m.plain(payload=64), 0, 6, True)])
    many("tiny first fragment", lambda m: [m.cut(m.plain(payload=64), 0, 1, True)])
    many("tiny fragments", lambda m: [m.cut(m.plain(payload=64), 0, 1, True), m.cut(m.plain(payload=64), 1, 99, False)])
    many("last fragment only", lambda m: [m.cut(m.plain(payload=64), 6, 99, False)])
    many("fragment at 8 bytes", lambda m: [m.cut(m.plain(payload=64), 1, 99, False)])
    many("fragments", lambda m: [m.cut(m.plain(payload=64), 0, 6, True), m.cut(m.plain(payload=64), 6, 99, False)])
    many(
        "overlapping fragments",
        lambda m: [m.cut(m.plain(payload=64), 0, 6, True), m.cut(m.plain(payload=64), 4, 99, False)],
    )
    # TCP and UDP
    one("to another port", lambda m: m.to_ports(m.ports[0], UNUSED_PORT))
    one("from another port", lambda m: m.to_ports(UNUSED_PORT, m.ports[1]))
    for name, flags in [
        *[("no", 0), ("SYN", "S"), ("SYN ACK", "SA"), ("FIN", "F"), ("FIN ACK", "FA"), ("RST", "R"), ("RST ACK", "RA")],
        *[("URG", "UA"), ("all", 0xFF), ("PSH only", "P"), ("ECE CWR", "AEC"), ("NS", 0x110)],
    ]:
        one(f"{name} flags", lambda m, flags=flags: m.segment(flags=flags))
    for name, by in [("ahead", 1 << 30), ("one behind", -1), ("far behind", -(1 << 30))]:
        one(f"sequence {name}", lambda m, by=by: m.segment(seq=(m.sequence + by) % 2**32))
        one(f"acknowledgment {name}", lambda m, by=by: m.segment(ack=(m.acknowledgment + by) % 2**32))
        one(f"RST {name}", lambda m, by=by: m.segment(flags="R", seq=(m.sequence + by) % 2**32))
    for words in (0, 4, 15):
        one(f"data offset {words}", lambda m, words=words: m.segment(dataofs=words))
    one("a wrong checksum", lambda m: m.segment(chksum=0x1234))
    one("checksum 0", lambda m: m.segment(chksum=0))
    for name, change in [("0", 0), ("7", 7), ("9", 9), ("1400", 1400)]:
        one(f"UDP length {name}", lambda m, change=change: m.segment(len=change))
    one("cut in the transport header", lambda m: m.ip(proto=6 if m.is_tcp else 17) / Raw(bytes(m.transport())[:6]))
    # ICMP
    one("echo", lambda m: m.ip() / ICMP() / m.payload())
    one("port unreachable", lambda m: m.icmp(type=3, code=3))
    one("too big", lambda m: m.icmp(type=3, code=4, nexthopmtu=68))
    one("too late", lambda m: m.icmp(type=11))
    one("redirect", lambda m: m.icmp(type=5, code=1, gw=address("near")))
    one("error about nothing", lambda m: m.ip() / ICMP(type=3, code=3) / Raw(b"\x45"))
    # What is left to a card
    sum_at = lambda m: 16 if m.is_tcp else 6
    partial = lambda m, payload=0: m.partial(payload)
    card("checksum by the card", lambda m: virtio(1, start=34, offset=sum_at(m)), partial)
    card("checksum into the port", lambda m: virtio(1, start=34, offset=2), partial)
    card("checksum into the destination", lambda m: virtio(1, start=26, offset=6), partial)
    card("checksum into the source", lambda m: virtio(1, start=26, offset=2), partial)
    card("checksum into the EtherType", lambda m: virtio(1, start=0, offset=12), partial)
    card("checksum over the end", lambda m: virtio(1, start=34, offset=1000), partial)
    for name, gso, size in [
        *[("TCP", 1, 1000), ("TCP of 1 byte", 1, 1), ("TCP too big", 1, 3000), ("TCP IPv6", 4, 1000)],
        *[("UDP", 5, 1000), ("UDP cut", 3, 1000)],
    ]:
        card(
            f"super-packet, {name}",
            lambda m, gso=gso, size=size: virtio(1, gso, 34 + (20 if m.is_tcp else 8), size, 34, sum_at(m)),
            lambda m: partial(m, 4000),
        )
    # By a host of the underlay
    whole = lambda m, **fields: m.on_wire(**fields) / m.transport() / m.payload()
    found["wire: as the peer"] = lambda m: m.vxlan(whole(m))
    found["wire: from no peer"] = lambda m: m.vxlan(whole(m), outer=address("outsider"))
    found["wire: from the other node"] = lambda m: m.vxlan(whole(m), outer=address("node2"))
    found["wire: from its own receiver"] = lambda m: m.vxlan(whole(m), outer=address("node1"))
    found["wire: to another VTEP"] = lambda m: m.vxlan(whole(m), to="192.0.2.77")
    found["wire: to a broadcast address"] = lambda m: m.vxlan(whole(m), to="192.0.2.255")
    for name, vni in [("another network's VNI", facts["otherVni"]), ("VNI 0", 0), ("an unknown VNI", 0xFFFFFF)]:
        found[f"wire: {name}"] = lambda m, vni=vni: m.vxlan(whole(m), vni=vni)
    found["wire: no VNI flag"] = lambda m: m.vxlan(whole(m), flags=0)
    found["wire: other flags"] = lambda m: m.vxlan(whole(m), flags=0xFF)
    found["wire: another port"] = lambda m: m.vxlan(whole(m), port=4790)
    for name in others:
        found[f"wire: inner source of {name}"] = lambda m, name=name: m.vxlan(whole(m, src=address(name)))
        found[f"wire: inner destination of {name}"] = lambda m, name=name: m.vxlan(whole(m, dst=address(name)))
    found["wire: to the visible address"] = lambda m: m.vxlan(whole(m, dst=m.destination, src=m.source))
    found["wire: inner MACs"] = lambda m: m.vxlan(
        whole(m), macs={"src": "02:00:00:00:00:01", "dst": "ff:ff:ff:ff:ff:ff"}
    )
    for ttl in (0, 1):
        found[f"wire: inner TTL {ttl}"] = lambda m, ttl=ttl: m.vxlan(whole(m, ttl=ttl))
    found["wire: TTL 1"] = lambda m: m.vxlan(whole(m), ttl=1)
    for ecn in (1, 2, 3):
        found[f"wire: ECN {ecn}"] = lambda m, ecn=ecn: m.vxlan(whole(m), tos=ecn)
        found[f"wire: ECN {ecn} over 2"] = lambda m, ecn=ecn: m.vxlan(whole(m, tos=TOS | 2), tos=ecn)
    found["wire: options"] = lambda m: m.vxlan(whole(m), options=[IPOption(b"\x01\x01\x01\x01")])
    found["wire: inner options"] = lambda m: m.vxlan(whole(m, options=[IPOption(b"\x01\x01\x01\x01")]))
    found["wire: a wrong outer checksum"] = lambda m: m.vxlan(whole(m), chksum=0x1234)
    found["wire: a wrong inner checksum"] = lambda m: m.vxlan(whole(m, chksum=0x1234))
    found["wire: tail"] = lambda m: [("outsider", m.vxlan(whole(m))[0][1] + b"behind it", None)]
    found["wire: cut"] = lambda m: [("outsider", m.vxlan(whole(m))[0][1][:-4], None)]
    found["wire: cut in the inner header"] = lambda m: [("outsider", m.vxlan(whole(m))[0][1][:70], None)]

    def noise(m):
        """A plain packet some of whose first bytes are random; every third has a right header checksum no more. What it is known by stays, and
        what is another value in each round: ports, TCP's numbers, checksum. There a random value may be the old one, and changes nothing."""
        frame = m.frame(m.plain())
        same = {15, 18, 19, *range(34, 38), *(range(38, 46) if m.is_tcp else ()), 34 + sum_at(m), 35 + sum_at(m)}
        for _ in range(m.random.randint(1, 3)):
            at = m.random.randrange(12, 34 + len(m.transport()))
            if at not in same:
                frame = poke(frame, at, m.random.randrange(256))
        return fixed(frame) if m.random.random() < 0.7 else frame

    for i in range(facts["noise"]):
        one(f"noise {i:03}", noise)
    return found
