"""A small DNS server for tests: over UDP and TCP on loopback, with the faults that a real one may have.

zone: Zone = {("a.example", "MX"): ["10 mx.a.example."], ("mx.a.example", "A"): ["127.0.0.1"]}
address = await nursery.start(serve, zone)
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio

from mailgate.network import TcpAddress

LOCALHOST = "127.0.0.1"
UDP_SIZE = 512
TTL = 60


class Fault(enum.Enum):
    """What a name's queries get in place of an answer."""

    SILENCE = "nothing"
    SERVFAIL = "a failure of the server"
    GARBAGE = "octets that are no message"
    ANOTHER_ID = "an answer to another query"
    ANOTHER_NAME = "an answer about another name"


Zone = dict[tuple[str, str], Sequence[str] | Fault]
"""(name, type) → records in presentation format; a name that has a CNAME has nothing else"""


async def serve(zone: Zone, *, task_status: trio.TaskStatus[TcpAddress] = trio.TASK_STATUS_IGNORED) -> None:
    """Answer until cancelled; starts with the address, which is the same for UDP and TCP."""
    udp, listener = await _same_port()
    with udp:
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(_serve_udp, zone, udp)
            nursery.start_soon(trio.serve_listeners, lambda stream: _serve_tcp(zone, stream), [listener])
            task_status.started(TcpAddress(LOCALHOST, udp.getsockname()[1]))


async def _same_port() -> tuple[trio.socket.SocketType, trio.SocketListener]:
    """A port that is free for both; the system chooses one that is free for UDP."""
    while True:
        udp = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
        await udp.bind((LOCALHOST, 0))
        try:
            (listener,) = await trio.open_tcp_listeners(udp.getsockname()[1], host=LOCALHOST)
        except OSError:
            udp.close()
        else:
            return udp, listener


async def _serve_udp(zone: Zone, udp: trio.socket.SocketType) -> None:
    while True:
        octets, peer = await udp.recvfrom(65_535)
        answer = _answer(zone, octets)
        if answer is not None and len(answer) > UDP_SIZE:
            truncated = dns.message.make_response(dns.message.from_wire(octets))
            truncated.flags |= dns.flags.TC
            answer = truncated.to_wire()
        if answer is not None:
            await udp.sendto(answer, peer)


async def _serve_tcp(zone: Zone, stream: trio.SocketStream) -> None:
    try:
        async with stream:
            octets = b""
            while len(octets) < 2 or len(octets) < 2 + int.from_bytes(octets[:2], "big"):
                more = await stream.receive_some()
                if not more:
                    return
                octets += more
            answer = _answer(zone, octets[2:])
            if answer is not None:
                await stream.send_all(len(answer).to_bytes(2, "big") + answer)
            await stream.receive_some()
    except trio.BrokenResourceError:
        pass  # the client has what it wants


def _answer(zone: Zone, octets: bytes) -> bytes | None:
    query = dns.message.from_wire(octets)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA
    (question,) = query.question
    record_type = dns.rdatatype.to_text(question.rdtype)
    found = zone.get((_text(question.name), record_type))
    if isinstance(found, Fault):
        return _faulty(found, response, question)
    name = question.name
    for _ in range(8):  # a chain of CNAMEs, or a loop of them
        cname = zone.get((_text(name), "CNAME"))
        if cname is None or isinstance(cname, Fault):
            break
        response.answer.append(dns.rrset.from_text_list(name, TTL, "IN", "CNAME", list(cname)))
        name = dns.name.from_text(cname[0])
    records = zone.get((_text(name), record_type), ())
    if records and not isinstance(records, Fault):
        response.answer.append(dns.rrset.from_text_list(name, TTL, "IN", record_type, list(records)))
    elif not any(known == _text(name) for known, _ in zone):
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire(max_size=65_535)


def _faulty(fault: Fault, response: dns.message.Message, question: dns.rrset.RRset) -> bytes | None:
    match fault:
        case Fault.SILENCE:
            return None
        case Fault.GARBAGE:
            return b"\xff" * 40
        case Fault.SERVFAIL:
            response.set_rcode(dns.rcode.SERVFAIL)
        case Fault.ANOTHER_ID:
            response.id ^= 1
        case Fault.ANOTHER_NAME:
            record = "10 mx.liar.example." if question.rdtype == dns.rdatatype.MX else "127.0.0.66"
            kind = dns.rdatatype.to_text(question.rdtype)
            response.answer.append(dns.rrset.from_text("liar.example.", TTL, "IN", kind, record))
    return response.to_wire()


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()
