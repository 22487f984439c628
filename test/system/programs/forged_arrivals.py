"""Where forged packets arrive, and what has become of each on the way, told so that it is the same for every port and sequence number."""
import socket
import struct

from forged_packet import MARK, TOS, VXLAN_PORT, add

SOL_PACKET = 263
CSUM_NOT_READY, CSUM_VALID = 8, 128  # of the status in struct tpacket_auxdata
OUTGOING = 4


def drain(places, note):
    """Reads what has come to the places and left the nodes: note() gets where, the IPv4 packet and the status of its checksum."""
    for name, place in places.items():
        while True:
            try:
                frame, ancillary, _, source = place["send"].recvmsg(70000, 200)
            except BlockingIOError:
                break
            status = next((struct.unpack_from("=I", data)[0] for level, _, data in ancillary if level == SOL_PACKET), 0)
            if place["kind"] == "node" and source[2] == OUTGOING:
                note_wire(f"wire of {name}", frame, status, note)
            elif place["kind"] == "container" and source[2] != OUTGOING:
                note(name, frame[14:], status)
        for s in place["hosts"]:
            while True:
                try:
                    packet = s.recv(70000)
                except BlockingIOError:
                    break
                if not is_vxlan(packet):  # else it is for the agent
                    note(f"host {name}", packet, 0)


def note_wire(place, frame, status, note):
    """A frame that leaves a node. One of an agent may have several datagrams, which a card is to part."""
    if not is_vxlan(frame[14:]):
        note(place, frame[14:], status)
        return
    target = socket.inet_ntoa(frame[30:34])
    at = 42
    while len(frame) >= at + 42:
        end = at + 22 + struct.unpack_from("!H", frame, at + 24)[0]
        if frame[end : end + 4] != b"\x08\0\0\0":
            end = len(frame)
        note(f"{place}, VNI {int.from_bytes(frame[at + 4 : at + 7], 'big')} to {target}", frame[at + 22 : end], status)
        at = end


def is_vxlan(packet):
    return len(packet) >= 28 and packet[9] == 17 and packet[22:24] == struct.pack("!H", VXLAN_PORT)


def number_of(packet):
    """Its number, or None. What a kernel answers may have its TOS or its payload, and never its identification too."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        is_ours = packet[1] & 0xFC == TOS and packet[9:10] + packet[20:21] != b"\1\0"
        return struct.unpack_from("!H", packet, 4)[0] if is_ours else None
    at = packet.find(MARK)
    return struct.unpack_from("!H", packet, at + len(MARK))[0] if 0 <= at <= len(packet) - len(MARK) - 2 else None


def is_void(packet, status):
    """Whether its receiver refuses it by a checksum."""
    if packet[0] != 0x45 or len(packet) < 28:
        return False
    if add(packet[:20]) != 0xFFFF:
        return True
    length, fragment, protocol = struct.unpack_from("!H", packet, 2)[0], packet[6] & 0x3F or packet[7], packet[9]
    if fragment or protocol not in (6, 17) or status & (CSUM_NOT_READY | CSUM_VALID):
        return False
    if protocol == 17 and packet[26:28] == b"\0\0":
        return False
    segment = packet[20:length]
    return add(segment, add(packet[12:20], protocol + len(segment))) != 0xFFFF


def change(sent, packet):
    """What became of the packet, apart from its checksums. Of fragments and segments: that some came."""
    if len(sent) > 1 or len(sent[0]) > 1500:
        return "parts"
    before, after = bare(sent[0]), bare(packet)
    changed = {i: f"{b:02x}" for i, (a, b) in enumerate(zip(before, after)) if a != b}
    if 20 in changed or 21 in changed:  # the agent has chosen another port, at random
        changed.update({20: "any", 21: "any"})
    length = "" if len(before) == len(after) else f"{len(before)} to {len(after)} bytes "
    return f"{length}{' '.join(f'{i}={byte}' for i, byte in sorted(changed.items()))}" or "as it was"


def bare(packet):
    """The packet with zeros for its checksums; the packet that an ICMP error is about, too."""
    packet = bytearray(packet)
    header = (packet[0] & 15) * 4
    if packet[0] >> 4 != 4 or len(packet) < header + 8:
        return bytes(packet)
    packet[10:12] = b"\0\0"
    fields = {1: [2], 6: [16], 17: [6]}.get(packet[9], [])
    if packet[9] == 1 and packet[header] in (3, 5, 11):
        fields = [2, 8 + 10, 8 + 20 + 6, 8 + 20 + 16]
    for field in fields:
        if len(packet) >= header + field + 2:
            packet[header + field : header + field + 2] = b"\0\0"
    return bytes(packet)


def inner_of(frame):
    """What is in a VXLAN frame."""
    return frame[14 + (frame[14] & 15) * 4 + 8 + 8 + 14 :]
