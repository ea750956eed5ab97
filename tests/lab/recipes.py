"""The recipes of docs/peers: pages that show configuration files, which are the ones that the lab runs.

    python -m lab.recipes      bring the pages up to date

A page names a file in a comment before a block:

    <!-- conf/peers/postfix/main.cf -->
    ```
    (the file)
    ```
"""

from __future__ import annotations

import re
from pathlib import Path

from lab.mta import REPOSITORY

PAGES = REPOSITORY / "docs" / "peers"

_BLOCK = re.compile(r"^(<!-- (conf/\S+) -->\n```\w*\n)(.*?)(^```$)", re.MULTILINE | re.DOTALL)


def shown(page: Path) -> dict[str, str]:
    """The files that a page shows, by their paths in the repository, as it shows them."""
    return {found[2]: found[3] for found in _BLOCK.finditer(page.read_text())}


def renewed(text: str) -> str:
    """The text of a page with its files as they are now."""
    return _BLOCK.sub(lambda found: found[1] + (REPOSITORY / found[2]).read_text() + found[4], text)


def main() -> None:
    """Renew every page."""
    for page in sorted(PAGES.glob("*.md")):
        page.write_text(renewed(page.read_text()))


if __name__ == "__main__":
    main()
