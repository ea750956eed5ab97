"""Scripted mail servers and clients, in-memory networks and dialogs: to test what speaks SMTP or LMTP on Trio.

Nothing here shares code with mailgate's protocol and session modules, so that what it observes is evidence.
"""

from mailgate.testing.dialog import Dialog, Side, play
from mailgate.testing.message import Delivered
from mailgate.testing.mta import ScriptedMTA, Violation
from mailgate.testing.network import EPOCH, Connection, Handler, MemoryIncoming, MemoryNetwork, Query
from mailgate.testing.scheduler import seeded
from mailgate.testing.script import (
    EXTENSIONS,
    BodyAction,
    Close,
    Decision,
    Delay,
    During,
    Plan,
    Question,
    Raw,
    Reset,
    Script,
    Silence,
    SlowReading,
    Speaks,
    Step,
    StopReading,
    Turns,
)
from mailgate.testing.sender import USES, ScriptedSender
from mailgate.testing.sender_session import SenderSession, Told
from mailgate.testing.sending import Attempt, Fate, Patience, Sending, Stage, State
from mailgate.testing.streams import BoundedStream, Resettable, bounded_stream_pair, reset
from mailgate.testing.transcript import Line, Transcript

__all__ = [
    "EPOCH",
    "EXTENSIONS",
    "USES",
    "Attempt",
    "BodyAction",
    "BoundedStream",
    "Close",
    "Connection",
    "Decision",
    "Delay",
    "Delivered",
    "Dialog",
    "During",
    "Fate",
    "Handler",
    "Line",
    "MemoryIncoming",
    "MemoryNetwork",
    "Patience",
    "Plan",
    "Query",
    "Question",
    "Raw",
    "Reset",
    "Resettable",
    "Script",
    "ScriptedMTA",
    "ScriptedSender",
    "SenderSession",
    "Sending",
    "Side",
    "Silence",
    "SlowReading",
    "Speaks",
    "Stage",
    "State",
    "Step",
    "StopReading",
    "Told",
    "Transcript",
    "Turns",
    "Violation",
    "bounded_stream_pair",
    "play",
    "reset",
    "seeded",
]
