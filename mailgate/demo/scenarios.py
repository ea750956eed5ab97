"""What the demo does: a table of scenarios. Each says what is broken, and which answers that must bring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from mailgate.demo.history import Duplicate, Try
from mailgate.demo.links import Fault
from mailgate.demo.world import ISP_A, ISP_B, TIMEOUTS, Gw, Server
from mailgate.testing import EXTENSIONS, Close, Script, Stage, State, Turns


class Direction(Enum):
    """Which way a message goes; the value is for people."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a recipient must hear from a gateway."""

    gateway: Gw
    state: State
    stages: tuple[Stage, ...]
    over: str = ""
    """the backbone that the message must take; "": that does not matter"""

    def fits(self, one: Try) -> bool:
        """Whether it was that."""
        return (one.gateway, one.state) == (self.gateway, self.state) and one.stage in self.stages

    def __str__(self) -> str:
        over = f" over {self.over}" if self.over else ""
        return f"{self.gateway} {self.state.value}{over} at {' or '.join(stage.value for stage in self.stages)}"


def takes(gateway: Gw, over: str = "") -> Expected:
    """2xx after the message."""
    return Expected(gateway, State.DELIVERED, (Stage.DOT,), over)


def defers(gateway: Gw, stage: Stage = Stage.RCPT) -> Expected:
    """4xx."""
    return Expected(gateway, State.DEFERRED, (stage,))


def refuses(gateway: Gw, stage: Stage) -> Expected:
    """5xx."""
    return Expected(gateway, State.REFUSED, (stage,))


def breaks_off(gateway: Gw) -> Expected:
    """No answer: the connection ends inside the message."""
    return Expected(gateway, State.DEFERRED, (Stage.BODY, Stage.DOT))


@dataclass(frozen=True, slots=True)
class Cut:
    """The link between a gateway and a server goes."""

    gateway: Gw
    server: Server | None
    """None: all of them"""
    fault: Fault
    over: str = ""
    """the backbone that it goes over; "": all of them"""


@dataclass(frozen=True, slots=True)
class Stop:
    """A host goes down, at once."""

    host: Gw | Server


@dataclass(frozen=True, slots=True)
class Does:
    """A server does as it is told from now on."""

    server: Server
    script: Script


@dataclass(frozen=True, slots=True)
class Mend:
    """All links are back, all hosts are up, all servers take everything.

    Before a message: it waits until the gateways have found out.
    """


Action = Cut | Stop | Does | Mend


@dataclass(frozen=True, slots=True)
class QueueRun:
    """The sender offers what it still has, gateway after gateway."""

    expected: Mapping[str, tuple[Expected, ...]]
    """recipient → what it must hear, in order"""
    before: tuple[Action, ...] = ()
    midway: tuple[Action, ...] = ()
    """done when half of the message is out, which then waits for it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One message, and what goes wrong meanwhile."""

    title: str
    broken: str
    promise: str
    """what must come of it all the same; like `broken`, for people, and no wider than a terminal"""
    direction: Direction
    recipients: tuple[str, ...]
    runs: tuple[QueueRun, ...]
    keeps: bool = False
    """what is broken stays so; otherwise all is mended afterwards, and the gateways start anew"""
    over_backbones: bool = False
    """it needs source addresses that differ"""
    size: int = 2_000
    """bytes of the message, about"""
    duplicates: tuple[Duplicate, ...] = ()
    """copies too many that cannot be avoided"""
    within: float | None = None
    """seconds in which each answer must come; None: as any other"""


ANN, BEN = "ann@home.example", "ben@home.example"
EVA, BOB, IDA = "eva@a.example", "bob@b.example", "ida@b.example"

SCENARIOS = (
    Scenario(
        title="Inbound, all well",
        broken="nothing.",
        promise="gw1 asks the inside server at each RCPT, then hands it through.",
        direction=Direction.INBOUND,
        recipients=(ANN, BEN),
        runs=(QueueRun({ANN: (takes(Gw.GW1),), BEN: (takes(Gw.GW1),)}),),
    ),
    Scenario(
        title="Outbound by LMTP, two destinations, all well",
        broken="nothing.",
        promise="gw1 delivers to both at once, and answers for each recipient.",
        direction=Direction.OUTBOUND,
        recipients=(EVA, BOB),
        runs=(QueueRun({EVA: (takes(Gw.GW1, ISP_A),), BOB: (takes(Gw.GW1, ISP_A),)}),),
    ),
    Scenario(
        title="Inbound, the inside link of gw1 is cut",
        broken="gw1 has no route to the inside server.",
        promise="gw1 says 4xx at RCPT, the outside server goes on to gw2 at once.",
        direction=Direction.INBOUND,
        recipients=(ANN,),
        runs=(
            QueueRun(
                {ANN: (defers(Gw.GW1), takes(Gw.GW2))},
                before=(Cut(Gw.GW1, Server.INSIDE, Fault.UNREACHABLE),),
            ),
        ),
    ),
    Scenario(
        title="Outbound, an outside server is down",
        broken="mx-b does not listen; it is back before the second try.",
        promise="eva has it; bob's waits in the sender's queue until mx-b is back.",
        direction=Direction.OUTBOUND,
        recipients=(EVA, BOB),
        runs=(
            QueueRun(
                {EVA: (takes(Gw.GW1),), BOB: (defers(Gw.GW1), defers(Gw.GW2))},
                before=(Stop(Server.MX_B),),
            ),
            QueueRun({BOB: (takes(Gw.GW1),)}, before=(Mend(),)),
        ),
    ),
    Scenario(
        title="Outbound, one destination is out of reach for gw1 only",
        broken="what gw1 sends to mx-b vanishes, over both backbones; gw2 is fine.",
        promise="eva by gw1, bob by gw2, nobody twice.",
        direction=Direction.OUTBOUND,
        recipients=(EVA, BOB),
        runs=(
            QueueRun(
                {EVA: (takes(Gw.GW1),), BOB: (defers(Gw.GW1), takes(Gw.GW2))},
                before=(Cut(Gw.GW1, Server.MX_B, Fault.BLACK_HOLE),),
            ),
        ),
    ),
    Scenario(
        title="Outbound, a backbone of gw1 goes dark",
        over_backbones=True,
        broken="whatever gw1 sends over isp-a vanishes.",
        promise="half a second later gw1 tries isp-b too, and delivers there.",
        direction=Direction.OUTBOUND,
        recipients=(EVA, BOB),
        runs=(
            QueueRun(
                {EVA: (takes(Gw.GW1, ISP_B),), BOB: (takes(Gw.GW1, ISP_B),)},
                before=(Cut(Gw.GW1, None, Fault.BLACK_HOLE, over=ISP_A),),
            ),
        ),
        within=TIMEOUTS.connect + TIMEOUTS.head_start,
        keeps=True,
    ),
    Scenario(
        title="Outbound, the backbone is still dark",
        over_backbones=True,
        broken="as before: whatever gw1 sends over isp-a vanishes.",
        promise="gw1 knows, and delivers over isp-b at once.",
        direction=Direction.OUTBOUND,
        recipients=(EVA, BOB),
        runs=(QueueRun({EVA: (takes(Gw.GW1, ISP_B),), BOB: (takes(Gw.GW1, ISP_B),)}),),
        within=TIMEOUTS.head_start,
        keeps=True,
    ),
    Scenario(
        title="Outbound, the backbone is back",
        over_backbones=True,
        broken="nothing any more: isp-a is mended.",
        promise="gw1 finds out by itself, and delivers over isp-a again.",
        direction=Direction.OUTBOUND,
        recipients=(EVA, BOB),
        runs=(QueueRun({EVA: (takes(Gw.GW1, ISP_A),), BOB: (takes(Gw.GW1, ISP_A),)}, before=(Mend(),)),),
        within=TIMEOUTS.head_start,
    ),
    Scenario(
        title="Outbound, a backbone of gw1 has no route at all",
        over_backbones=True,
        broken='connecting from isp-a ends in "No route to host", at once.',
        promise="so gw1 delivers over isp-b at once; nobody waits.",
        direction=Direction.OUTBOUND,
        recipients=(EVA, BOB),
        runs=(
            QueueRun(
                {EVA: (takes(Gw.GW1, ISP_B),), BOB: (takes(Gw.GW1, ISP_B),)},
                before=(Cut(Gw.GW1, None, Fault.UNREACHABLE, over=ISP_A),),
            ),
        ),
        within=TIMEOUTS.head_start,
    ),
    Scenario(
        title="Outbound, a backbone of gw1 has no route to one server",
        over_backbones=True,
        broken="gw1 cannot reach mx-b over isp-a; mx-a it can.",
        promise="eva over isp-a, bob over isp-b, both at once.",
        direction=Direction.OUTBOUND,
        recipients=(EVA, BOB),
        runs=(
            QueueRun(
                {EVA: (takes(Gw.GW1, ISP_A),), BOB: (takes(Gw.GW1, ISP_B),)},
                before=(Cut(Gw.GW1, Server.MX_B, Fault.UNREACHABLE, over=ISP_A),),
            ),
        ),
        within=TIMEOUTS.head_start,
    ),
    Scenario(
        title="Outbound, one recipient is refused after the message",
        broken="mx-b takes the message for ida, but not for bob (it speaks PRDR).",
        promise="exactly bob is refused; eva and ida have it.",
        direction=Direction.OUTBOUND,
        recipients=(EVA, BOB, IDA),
        runs=(
            QueueRun(
                {EVA: (takes(Gw.GW1),), BOB: (refuses(Gw.GW1, Stage.DOT),), IDA: (takes(Gw.GW1),)},
                before=(
                    Does(
                        Server.MX_B,
                        Script(extensions=(*EXTENSIONS, "PRDR"), outcomes={BOB: "550 5.7.0 bob wants no such mail"}),
                    ),
                ),
            ),
        ),
    ),
    Scenario(
        title="Inbound, gw1 dies in the middle of a message",
        broken="gw1 is stopped when half of the message is through.",
        promise="the inside server drops its half; all of it comes by gw2.",
        direction=Direction.INBOUND,
        recipients=(ANN,),
        runs=(QueueRun({ANN: (breaks_off(Gw.GW1), takes(Gw.GW2))}, midway=(Stop(Gw.GW1),)),),
        size=400_000,
    ),
    Scenario(
        title="Inbound, both gateways are cut from the inside",
        broken="neither can reach the inside server; mended before the second try.",
        promise="4xx at both; the mail stays in the sender's queue, then arrives.",
        direction=Direction.INBOUND,
        recipients=(ANN, BEN),
        runs=(
            QueueRun(
                {ANN: (defers(Gw.GW1), defers(Gw.GW2)), BEN: (defers(Gw.GW1), defers(Gw.GW2))},
                before=(
                    Cut(Gw.GW1, Server.INSIDE, Fault.UNREACHABLE),
                    Cut(Gw.GW2, Server.INSIDE, Fault.BLACK_HOLE),
                ),
            ),
            QueueRun({ANN: (takes(Gw.GW1),), BEN: (takes(Gw.GW1),)}, before=(Mend(),)),
        ),
    ),
    Scenario(
        title="Inbound, the inside server is lost after the dot",
        broken="it takes the message, and is gone before it has said so.",
        promise="unknown, so 451; the retry makes the copy that SMTP cannot avoid.",
        direction=Direction.INBOUND,
        recipients=(ANN,),
        runs=(
            QueueRun(
                {ANN: (defers(Gw.GW1, Stage.DOT), takes(Gw.GW2))},
                before=(Does(Server.INSIDE, Script(dot=Turns(Close(), "250 2.0.0 taken"))),),
            ),
        ),
        duplicates=(Duplicate.UNKNOWN,),
    ),
)
