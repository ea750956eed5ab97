"""The command line. What only one command needs is imported there, so that none is slow to start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailgate.text import escaped

if TYPE_CHECKING:
    from mailgate.config import Config
    from mailgate.logs import Format
    from mailgate.relay.settings import Backbone, Listener, Route, Settings

EXIT_FAILED = 1
EXIT_BAD_CONFIG = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mailgate", message="%(prog)s %(version)s")
def main() -> None:
    """A mail gateway that never takes a message it cannot hand on."""


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--dns", "ask_dns", is_flag=True, help="Ask DNS whether it knows each backbone's addresses and HELO name."
)
def check(file: Path, ask_dns: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Check the configuration in FILE.

    Prints what it means, for you to compare with what you meant; or everything that is wrong with it, with
    exit status 2. What may be wrong is a warning on standard error.

    With --dns, exit status 1 if DNS lacks, for a backbone, what receivers of its mail look for, or cannot be asked.
    """
    config = load_or_exit(file)
    _find_store_or_exit(file, config)
    for line in _summary(config):
        click.echo(line)
    for warning in config.warnings:
        click.echo(f"mailgate: warning: {escaped(str(file))}: {warning}", err=True)
    if ask_dns:
        from mailgate import dns_check

        click.echo()
        sys.exit(0 if dns_check.run(config) else EXIT_FAILED)


@main.command()
@click.option("-c", "--config", "file", required=True, type=click.Path(path_type=Path), help="The configuration file.")
@click.option(
    "--log-format",
    type=click.Choice(["auto", "logfmt", "json", "console"]),
    default="auto",
    help="auto: coloured on a terminal, logfmt elsewhere.",
)
@click.option("--verbose", is_flag=True, help="Log every reply, on both sides of a session.")
def serve(file: Path, log_format: Format, verbose: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Run the gateway.

    The log goes to standard output. SIGTERM or SIGINT drains: nobody new is let in, transactions under way may
    end. A second signal leaves at once.

    Exit status 0 after a drain, 1 if an address cannot be listened on or a second signal cut something off, 2 if
    the configuration is bad.
    """
    import trio

    from mailgate import app, control, logs
    from mailgate.network import RealNetwork

    config = load_or_exit(file)
    _find_store_or_exit(file, config)
    _raise_descriptor_limit()
    network = RealNetwork(config.dns_servers)
    log = logs.configure(stream=sys.stdout.buffer, format=log_format, verbose=verbose, now=network.now)
    try:
        drained = trio.run(app.serve, config, network, log)
    except (app.CannotListen, control.CannotServe) as error:
        click.echo(f"mailgate: {error}", err=True)
        sys.exit(EXIT_FAILED)
    sys.exit(0 if drained else EXIT_FAILED)


def _raise_descriptor_limit() -> None:
    """Use as many descriptors as we may: a session with its next hops takes several, and often only 1,024 are given."""
    import contextlib
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # some systems name a hard limit that they do not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@main.command()
@click.argument("address")
@click.option("-c", "--config", "file", required=True, type=click.Path(path_type=Path), help="The configuration file.")
@click.option("--listener", help="As if it came to this listener; otherwise the first one with a route for it.")
@click.option("--sender", default="", help="The reverse-path to say; otherwise the null one, <>.")
def probe(address: str, file: Path, listener: str | None, sender: str) -> None:
    """Ask the next hop for ADDRESS, path by path, whether it takes mail for it. Nothing is sent.

    Exit status 0 if some path takes it, 1 if none does, 2 if there is nothing to ask.
    """
    from mailgate import probing

    config = load_or_exit(file)
    try:
        taken = probing.run(config, address=address, listener=listener, sender=sender)
    except probing.NothingToAsk as error:
        click.echo(f"mailgate: {error}", err=True)
        sys.exit(EXIT_BAD_CONFIG)
    sys.exit(0 if taken else EXIT_FAILED)


@main.command()
@click.option("-c", "--config", "file", required=True, type=click.Path(path_type=Path), help="The configuration file.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON; docs/configuration.md has the keys.")
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
def status(file: Path, as_json: bool, watch: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Show what the running gateway is doing: its sessions, and its paths with their health.

    It is asked over a socket in the `state_dir` of its configuration, by the user that it runs as or by root. With
    --json --watch, each second is a line.

    Exit status 0 if it answers, whatever state its paths are in, 1 if it does not, 2 if the configuration is bad or
    has no `state_dir`.
    """
    from mailgate import control, status_view

    config = load_or_exit(file)
    if config.state_dir is None:
        click.echo(
            f"mailgate: {escaped(str(file))}: it has no control socket to ask; set state_dir, for example "
            'state_dir = "/var/lib/mailgate", before the first table, and restart the gateway',
            err=True,
        )
        sys.exit(EXIT_BAD_CONFIG)
    try:
        status_view.run(config.state_dir, as_json=as_json, watch=watch)
    except control.CannotAsk as error:
        click.echo(f"mailgate: {escaped(str(error))}", err=True)
        sys.exit(EXIT_FAILED)


@main.command()
@click.option("--serve", is_flag=True, help="Go on afterwards, and take messages that you send by hand.")
@click.option("--verbose", is_flag=True, help="Show what the gateways log, every reply included, on standard error.")
@click.option("--log", "file", type=click.Path(path_type=Path), help="Write what the gateways log to this file.")
def demo(serve: bool, verbose: bool, file: Path | None) -> None:  # noqa: FBT001 - click passes it by name
    """See it work: two gateways on loopback addresses, broken one after another.

    Needs no configuration, no privileges and no network. Real messages go both ways through real sockets to
    scripted mail servers. Exit status 0 if every promise held, 1 if not.
    """
    from mailgate.demo import run

    try:
        sys.exit(run.run(serve=serve, verbose=verbose, file=file))
    except run.CannotRun as error:
        click.echo(f"mailgate: {error}", err=True)
        sys.exit(EXIT_FAILED)


def load_or_exit(file: Path) -> Config:
    """The configuration; or its problems on stderr, one on a line, and exit status 2."""
    from mailgate.config import ConfigError, load

    try:
        return load(file)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_BAD_CONFIG)


def _find_store_or_exit(file: Path, config: Config) -> None:
    """A shared ledger needs a package that others do not: without it one line on stderr, and exit status 2."""
    if config.ledger_url is None:
        return
    from mailgate.store_redis import RedisStore, StoreMissing

    try:
        RedisStore(config.ledger_url)
    except StoreMissing as error:
        click.echo(f"{escaped(str(file))}: ledger.url: {error}", err=True)
        sys.exit(EXIT_BAD_CONFIG)


def _summary(config: Config) -> Iterator[str]:
    settings = config.settings
    yield f"hostname: {settings.hostname}"
    yield f"mail for <Postmaster>: {_postmaster(settings)}"
    yield f"DNS servers: {', '.join(str(server) for server in config.dns_servers) or 'as the system has them'}"
    yield f"state: {config.state_dir or 'none is kept, and there is no control socket for `mailgate status`'}"
    yield f"ledger: {_ledger(config)}"
    if config.backbones:
        yield ""
        yield from (_backbone(backbone) for backbone in config.backbones)
    for listener in settings.listeners:
        yield ""
        yield f"listener {listener.name}: {listener.protocol.name}"
        yield from (f"    {line}" for line in _listener(config, listener))


def _postmaster(settings: Settings) -> str:
    from mailgate.protocol.command import Mailbox
    from mailgate.protocol.reply import Role
    from mailgate.relay.routing import find_route, postmaster

    mailbox = postmaster(settings, Mailbox("postmaster", ""))
    smtp = [one for one in settings.listeners if one.protocol is Role.SMTP]
    if all(find_route(one.routes, mailbox.domain) for one in smtp):
        return str(mailbox)
    return f"{mailbox}, refused: no route takes it; set `postmaster` (RFC 5321 section 4.5.1 wants it taken)"


def _ledger(config: Config) -> str:
    from mailgate.config_values import parse_ledger_url

    if not config.settings.ledger:
        return "off"
    if config.ledger_url is not None:
        return f"shared at {parse_ledger_url(config.ledger_url)}"
    return f"this gateway's own memory{'' if config.state_dir else ', lost when it stops'}"


def _backbone(backbone: Backbone) -> str:
    return f"backbone {backbone.name}: from {', '.join(backbone.sources)}, HELO {backbone.helo}"


def _listener(config: Config, listener: Listener) -> Iterator[str]:
    from mailgate.network import UnixAddress

    addresses = [bind.address for bind in config.binds if bind.listener is listener]
    yield f"on {', '.join(str(address) for address in addresses)}"
    tcp = [address for address in addresses if not isinstance(address, UnixAddress)]
    if tcp:
        clients = listener.clients
        yield f"for {'everyone' if clients is None else ', '.join(str(network) for network in clients)}"
    if len(tcp) < len(addresses):
        yield "for whom the file mode of its unix socket lets in"
    for route in listener.routes:
        yield f"{', '.join(route.domains)} -> {_next_hop(route)}"
    if not any("*" in route.domains for route in listener.routes):
        yield "any other domain -> refused"
    yield f"several next hops -> {_several(config, listener)}"


def _several(config: Config, listener: Listener) -> str:
    from mailgate.protocol.reply import Role
    from mailgate.relay.settings import SeveralNextHops

    if listener.protocol is Role.LMTP:
        return "together, each recipient with a reply of its own"
    if listener.several_next_hops is SeveralNextHops.APART:
        return "apart, one in each transaction"
    if listener.handover is not None:
        return f"together; what one has not taken when another has, goes to {listener.handover}"
    known = "the ledger knows who has it" if config.settings.ledger else "with second copies, as the ledger is off"
    return f"together; what one has not taken when another has, comes again: {known}"


def _next_hop(route: Route) -> str:
    way = f"by MX, port {route.port}" if route.mx else f"to {', then '.join(str(host) for host in route.hosts)}"
    if route.backbones:
        way += f", over {', then '.join(backbone.name for backbone in route.backbones)}"
    remarks = (
        (route.allow_private, "hosts with private addresses too"),
        (route.address_literals, "address literals too"),
        (route.group_domains, "domains with the same hosts share a delivery"),
    )
    return "; ".join(
        [f"route {route.name}: {route.protocol.name} {way}", *(remark for applies, remark in remarks if applies)]
    )
