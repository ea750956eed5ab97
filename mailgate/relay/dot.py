"""Behind the dot: each recipient's outcome, as the next hop's protocol tells it.

SMTP has one reply for all (RFC 5321 section 4.1.1.4), LMTP one for each accepted recipient (RFC 2033 section 4.2),
PRDR one for each and a final one (draft-hall-prdr).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mailgate.protocol.reply import Role
from mailgate.relay import outcome
from mailgate.relay.envelope import Recipient
from mailgate.relay.outcome import Outcome
from mailgate.session.client import ClientSession, Lost, Patience

Heard = Callable[[Recipient, Outcome], None]
_FOREVER = Patience(math.inf)
"""the delivery's own scope is the limit"""


async def hear(session: ClientSession, role: Role, recipients: Sequence[Recipient], heard: Heard) -> bool:
    """Hear the outcomes of those in the transaction, in their order; each is told as soon as it is known.

    False: the session was lost before the last one; what was not told is unknown.
    """
    if role is Role.LMTP:
        for recipient in recipients:
            result = await session.reply(_FOREVER)
            if isinstance(result, Lost):
                return False
            heard(recipient, outcome.outcome(result))
        return True
    result = await session.reply(_FOREVER)
    if isinstance(result, Lost):
        return False
    if result.kind == 3:
        return await _hear_prdr(session, recipients, heard)
    for recipient in recipients:
        heard(recipient, outcome.outcome(result))
    return True


async def _hear_prdr(session: ClientSession, recipients: Sequence[Recipient], heard: Heard) -> bool:
    replies = []
    while session.outcomes_due:
        result = await session.reply(_FOREVER)
        if isinstance(result, Lost):
            return False
        replies.append(result)
    *each, final = replies
    for recipient, settled in zip(recipients, outcome.prdr_outcomes(each, final), strict=True):
        heard(recipient, settled)
    return True
