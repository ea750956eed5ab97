"""The shape of the house: who imports whom, and what is not to be found in it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mailgate

ROOT = Path(mailgate.__file__).parent


def _name(path: Path) -> str:
    parts = ["mailgate", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): ast.parse(path.read_text("utf-8")) for path in sorted(ROOT.rglob("*.py"))}

# Part of the house → what it may import of the others. `cli → app → gateway → relay → session → protocol` is the
# order; a part named with its module means only that module.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "protocol": (),
    "session": ("protocol",),
    "network": (),
    "store": (),
    "store_redis": ("store",),
    "relay.settings": ("network", "protocol"),
    "relay": ("session", "protocol", "network", "store"),
    "gateway": ("relay", "session", "protocol", "network", "store"),
    "text": (),
    "logs": ("text",),
    "config": ("relay.settings", "network", "protocol", "text"),
    "probing": ("relay", "config", "protocol", "network", "text"),
    "dns_check": ("config", "network", "text"),
    "control": ("relay", "network"),
    "status_view": ("control", "relay", "network", "text"),
    "ledger_file": ("relay",),
    "app": ("gateway", "control", "ledger_file", "store", "store_redis", "relay", "config", "network"),
    "testing": ("network",),
    "demo": ("gateway", "relay.settings", "protocol", "network", "testing", "logs", "text"),
    "cli": (
        "app",
        "control",
        "demo",
        "probing",
        "status_view",
        "dns_check",
        "store_redis",
        "relay",
        "protocol",
        "config",
        "logs",
        "network",
        "text",
    ),
    "__main__": ("cli",),
    "mailgate": ("gateway", "relay.settings", "protocol", "network", "store"),
}

STDLIB_ONLY = ("protocol",)
"""parts that use nothing that has to be installed"""

NO_WORLD = ("protocol", "session", "relay", "gateway")
"""parts that reach the world through `network` only: no socket, clock or chance of their own"""

WORLD = ("socket", "ssl", "select", "time", "random", "secrets", "uuid", "threading", "subprocess", "asyncio", "dns")


def part(module: str) -> str:
    """The part of the house that a module belongs to."""
    inside = module.removeprefix("mailgate.")
    if inside in MAY_IMPORT:
        return inside
    return inside.split(".")[0].split("_")[0] if "." in module and inside != "__main__" else inside


def imports(module: str) -> Iterator[str]:
    """The names of all modules that a module imports, wherever it does so."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            assert node.module is not None
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in inner if name in MODULES]
            yield from found or [node.module]


each_module = pytest.mark.parametrize("module", MODULES)


@each_module
def test_every_module_has_its_place(module: str) -> None:
    assert part(module) in MAY_IMPORT, f"write in MAY_IMPORT what {module} may import"


def test_no_place_is_empty() -> None:
    assert {part(module) for module in MODULES} == set(MAY_IMPORT)


@each_module
def test_imports_go_one_way(module: str) -> None:
    own = part(module)
    for name in imports(module):
        if name.split(".")[0] != "mailgate":
            continue
        theirs = part(name)
        if theirs == own or theirs in MAY_IMPORT[own] or theirs.split(".")[0] in MAY_IMPORT[own]:
            continue
        if own == "relay" and theirs == "relay.settings":
            continue
        pytest.fail(f"{module} imports {name}, but {own} may import only {', '.join(MAY_IMPORT[own]) or 'nothing'}")


def test_the_table_has_no_circle() -> None:
    done: list[str] = []
    while len(done) < len(MAY_IMPORT):
        ready = [one for one, others in MAY_IMPORT.items() if one not in done and set(others) <= set(done)]
        assert ready, f"a circle among {sorted(set(MAY_IMPORT) - set(done))}"
        done += ready


@each_module
def test_the_protocol_uses_the_standard_library_only(module: str) -> None:
    if part(module) in STDLIB_ONLY:
        others = [name for name in imports(module) if name.split(".")[0] not in (*sys.stdlib_module_names, "mailgate")]
        assert others == []


@each_module
def test_the_world_is_reached_through_the_network_only(module: str) -> None:
    if part(module).split(".")[0] in NO_WORLD:
        assert [name for name in imports(module) if name.split(".")[0] in WORLD] == []


# What is not to be found. A ban is a function that says whether a node of the syntax tree breaks it.


def _calls(*names: str) -> Callable[[ast.AST], bool]:
    return lambda node: isinstance(node, ast.Call) and ast.unparse(node.func) in names


def _async_generator(node: ast.AST) -> bool:
    return isinstance(node, ast.AsyncFunctionDef) and any(
        isinstance(one, ast.Yield | ast.YieldFrom) for one in _own_nodes(node)
    )


def _own_nodes(function: ast.AsyncFunctionDef | ast.FunctionDef) -> Iterator[ast.AST]:
    """What is in a function and not in one that it defines."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _async_comprehension(node: ast.AST) -> bool:
    return isinstance(node, ast.GeneratorExp) and any(one.is_async for one in node.generators)


def _shield(node: ast.AST) -> bool:
    keyword = isinstance(node, ast.keyword) and node.arg == "shield"
    return keyword or (isinstance(node, ast.Attribute) and node.attr == "shield")


def _nursery_in_aenter(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.AsyncFunctionDef)
        and node.name == "__aenter__"
        and any("nursery" in ast.unparse(one) for one in ast.walk(node) if isinstance(one, ast.Call))
    )


def _iterates_over_a_set(node: ast.AST) -> bool:
    if not isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
        return False
    over = node.iter
    return isinstance(over, ast.Set | ast.SetComp) or _calls("set", "frozenset")(over)


def _catches_all(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    caught = "" if node.type is None else ast.unparse(node.type)
    return node.type is None or any(name in caught for name in ("BaseException", "Exception", "trio.Cancelled"))


INNER = ("protocol", "session", "relay", "gateway")

BANS: dict[str, tuple[Callable[[ast.AST], bool], tuple[str, ...]]] = {
    "the system's clock": (_calls("time.time", "time.monotonic", "datetime.now", "datetime.datetime.now"), INNER),
    "chance of its own": (_calls("os.urandom", "uuid.uuid4", "uuid.uuid1"), INNER),
    "hash(), id()": (_calls("hash", "id"), INNER),
    "threads": (_calls("trio.to_thread.run_sync", "to_thread.run_sync", "trio.from_thread.run"), INNER),
    "async generator": (_async_generator, INNER),
    "async generator expression": (_async_comprehension, INNER),
    "shield": (_shield, INNER),
    "nursery in __aenter__": (_nursery_in_aenter, tuple(MAY_IMPORT)),
    "iteration over a set": (_iterates_over_a_set, INNER),
}


@pytest.mark.parametrize(("banned", "parts"), BANS.values(), ids=BANS.keys())
def test_bans(banned: Callable[[ast.AST], bool], parts: tuple[str, ...]) -> None:
    found = [
        f"{module}, line {getattr(node, 'lineno', '?')}: {ast.unparse(node)[:80]}"
        for module, tree in MODULES.items()
        if part(module) in parts or part(module).split(".")[0] in parts
        for node in ast.walk(tree)
        if banned(node)
    ]
    assert found == []


# Each ban, and code that breaks it
BROKEN = {
    "the system's clock": "time.time()",
    "chance of its own": "os.urandom(4)",
    "hash(), id()": "{}[id(self)]",
    "threads": "await trio.to_thread.run_sync(f)",
    "async generator": "async def f():\n    if x:\n        yield 1",
    "async generator expression": "all(x async for x in y)",
    "shield": "trio.CancelScope(shield=True)",
    "nursery in __aenter__": "async def __aenter__(self):\n    self.n = await trio.open_nursery().__aenter__()",
    "iteration over a set": "[x for x in set(y)]",
}


@pytest.mark.parametrize("name", BANS)
def test_each_ban_finds_what_it_is_for(name: str) -> None:
    assert any(BANS[name][0](node) for node in ast.walk(ast.parse(BROKEN[name])))


BOUNDARIES = ("mailgate.gateway", "mailgate.relay.delivery")
"""Where a session's, and a delivery's, errors end: the only modules that catch what they do not know"""


def test_errors_end_in_two_modules_only() -> None:
    found = [
        module
        for module, tree in MODULES.items()
        if part(module).split(".")[0] in INNER and any(_catches_all(node) for node in ast.walk(tree))
    ]
    assert found == list(BOUNDARIES)
