"""All mutants: for each checker, faults that it must find."""

from __future__ import annotations

from sim import mutants_dots, mutants_lasting, mutants_quiet, mutants_replies, mutants_together
from sim.mutant import Mutant

__all__ = ["MUTANTS", "Mutant"]

MUTANTS: tuple[Mutant, ...] = (
    *mutants_replies.MUTANTS,
    *mutants_dots.MUTANTS,
    *mutants_lasting.MUTANTS,
    *mutants_quiet.MUTANTS,
    *mutants_together.MUTANTS,
)
