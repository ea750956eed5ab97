"""The pages of docs/peers show what the lab runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.mta import RECIPES, REPOSITORY, Role
from lab.mtas import DOVECOT, EXIM, OPENSMTPD, POSTFIX, SENDMAIL
from lab.recipes import PAGES, renewed, shown

SERVERS = {mta.root.name: mta for mta in (POSTFIX, EXIM, SENDMAIL, OPENSMTPD, DOVECOT)}


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.name)
def test_the_files_are_as_shown(page: Path) -> None:
    assert page.read_text() == renewed(page.read_text()), "run: PYTHONPATH=tests .venv/bin/python -m lab.recipes"


@pytest.mark.parametrize("name", SERVERS)
def test_every_file_that_the_lab_runs_is_shown(name: str) -> None:
    sources = [file.source for file in SERVERS[name].roles[Role.INSIDE]]
    recipe = {str(source.relative_to(REPOSITORY)) for source in sources if source.is_relative_to(RECIPES)}
    assert recipe
    assert recipe <= set(shown(PAGES / f"{name}.md"))


def test_every_recipe_is_run_by_the_lab() -> None:
    run = {file.source for mta in SERVERS.values() for file in mta.roles[Role.INSIDE]}
    assert {path for path in RECIPES.rglob("*") if path.is_file()} <= run
