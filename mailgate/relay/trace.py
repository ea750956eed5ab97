"""`Received:` lines: the one we add (RFC 5321 section 4.4), and the count of those before it (section 6.3). Pure."""

from __future__ import annotations

import datetime
import email.utils
import re
from dataclasses import dataclass

from mailgate.network import Address, TcpAddress
from mailgate.protocol.command import Hello, Verb
from mailgate.protocol.reply import reply

LOOP = reply(554, "5.4.6", "Too many hops: this message goes in circles")

_WITH = {  # RFC 3848 section 3, RFC 6531 section 4.3
    (Verb.HELO, False): "SMTP",
    (Verb.EHLO, False): "ESMTP",
    (Verb.EHLO, True): "UTF8SMTP",
    (Verb.LHLO, False): "LMTP",
    (Verb.LHLO, True): "UTF8LMTP",
}
_NO_ATOM = re.compile(r"[^A-Za-z0-9.:_\[\]\-]")
_RECEIVED = re.compile(rb"\r\nreceived[ \t]*:", re.IGNORECASE)
_ENOUGH = 64  # octets of a line that tell whether it is a `Received:` line


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a message came to us."""

    hello: Hello
    peer: Address
    hostname: str
    session: str
    when: datetime.datetime


def received_line(arrival: Arrival, recipient: str | None, *, smtputf8: bool) -> bytes:
    """Our `Received:` line, folded, with CRLFs.

    `recipient` is named only where there is a single one: more would tell each of the others (RFC 5321 section 7.2).
    """
    hello = _NO_ATOM.sub("?", arrival.hello.name)[:255]
    peer = arrival.peer
    match peer:
        case TcpAddress(ip):
            where = f"([IPv6:{ip}])" if ":" in ip else f"([{ip}])"
        case _:
            where = "(unix socket)"
    protocol = _WITH[arrival.hello.verb, smtputf8 and arrival.hello.verb is not Verb.HELO]
    lines = [
        f"Received: from {hello} {where}",
        f"\tby {arrival.hostname} with {protocol} id {arrival.session}",
    ]
    if recipient is not None:
        lines.append(f"\tfor <{recipient}>")
    lines[-1] += ";"
    lines.append(f"\t{email.utils.format_datetime(arrival.when)}")
    return "".join(line + "\r\n" for line in lines).encode()


class HopCounter:
    """Counts `Received:` lines in the header as it streams by."""

    __slots__ = ("_in_header", "_rest", "count")

    def __init__(self) -> None:
        self.count = 0
        self._in_header = True
        # From the last CRLF on: the line that is not complete yet. The message begins at the start of a line.
        self._rest = b"\r\n"

    def feed(self, content: bytes) -> None:
        """Take some octets of the message. Lines end in CRLF, and no octets end between CR and LF."""
        if not self._in_header:
            return
        text = self._rest + content
        last = text.find(b"\r\n\r\n")
        self._in_header = last < 0
        if self._in_header:
            last = text.rfind(b"\r\n")
        self.count += len(_RECEIVED.findall(text[:last]))
        self._rest = text[last : last + _ENOUGH]
