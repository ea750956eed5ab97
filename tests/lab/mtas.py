"""The mail servers of the lab, and what else it has a root for."""

from __future__ import annotations

from lab import ledger
from lab.mta_dovecot import DOVECOT
from lab.mta_exim import EXIM, EXIM_WITHOUT_PRDR
from lab.mta_opensmtpd import OPENSMTPD
from lab.mta_postfix import POSTFIX
from lab.mta_sendmail import SENDMAIL
from lab.roots import Root

__all__ = ["DOVECOT", "EXIM", "EXIM_WITHOUT_PRDR", "OPENSMTPD", "POSTFIX", "ROOTS", "SENDMAIL"]

ROOTS = (
    *(mta.root for mta in (POSTFIX, EXIM, SENDMAIL, OPENSMTPD, DOVECOT)),
    Root("knot", ("knot",)),
    ledger.ROOT,
)
