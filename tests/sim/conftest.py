"""The kill matrix behind the tests' results. Results reach it as properties of reports, also from other processes."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

# `world` of the relay tests, where mutants are shown to do what they say.
sys.path.append(str(Path(__file__).parent.parent / "relay"))

KILL = "mutant killed"
"""the name of the property; its value has the fields of a `Kill`"""

_WIDTH = 120


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the kill matrix, if there is one."""
    found = [
        value
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, value in report.user_properties
        if name == KILL
    ]
    if not found:
        return
    from sim.kills import Kill, matrix  # the simulator is big, and most runs do without it

    text = io.StringIO()
    console = Console(file=text, width=_WIDTH)
    console.print(matrix(Kill(**fields) for fields in found))
    terminalreporter.write_line("")
    terminalreporter.write(text.getvalue())
