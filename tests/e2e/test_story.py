"""The log of `mailgate serve`: what it is written in, and that the lines of one id tell the story of a session."""

from __future__ import annotations

import re
import smtplib
import subprocess
from pathlib import Path

import pytest
from live import (
    MAILGATE,
    MESSAGE,
    PATIENCE,
    Gateway,
    Line,
    NextHops,
    accepts,
    configuration,
    eventually,
    free_port,
    route,
)

from mailgate.testing import Close, Script, ScriptedMTA

LOGFMT = re.compile(r'timestamp=\S+Z level=\w+ event=\w+( [\w.]+=("(\\.|[^"\\])*"|[^" ]+))*')


def send(gateway: Gateway, *recipients: str) -> None:
    with smtplib.SMTP(*gateway.smtp, "client.example", timeout=PATIENCE) as client:
        client.sendmail("s@in.example", recipients, MESSAGE)


def without_times(line: Line) -> Line:
    return {key: value for key, value in line.items() if key not in ("timestamp", "seconds")}


def test_every_address_that_is_listened_on_is_a_line(tmp_path: Path) -> None:
    with Gateway(configuration(tmp_path, route("a", "127.0.0.1:1")), tmp_path) as gateway:
        (smtp_port, lmtp_port) = (gateway.smtp[1], gateway.lmtp[1])
        lines = gateway.lines(event="listening")
    assert [(line["listener"], line["protocol"], line["address"]) for line in lines] == [
        ("from-outside", "smtp", f"127.0.0.1:{smtp_port}"),
        ("from-inside", "lmtp", f"127.0.0.1:{lmtp_port}"),
        ("from-inside", "lmtp", f"unix:{tmp_path}/lmtp.sock"),
    ]


def test_a_good_transaction_is_two_lines(tmp_path: Path) -> None:
    mta = ScriptedMTA("a")
    with NextHops() as hops:
        host = hops.tcp(mta)
        with Gateway(configuration(tmp_path, route("a", host)), tmp_path) as gateway:
            send(gateway, "u@a.example", "v@a.example")
            gateway.wait_for(event="delivered")
            before, *lines = [line for line in gateway.lines() if "id" in line or line["event"] == "delivered"]
    (after,) = lines
    size = mta.messages[0].size
    session = {"id": before["id"], "client": before["client"], "helo": "client.example", "sender": "<s@in.example>"}
    assert before["client"].startswith("127.0.0.1:")
    assert without_times(before) == {
        "level": "info",
        "event": "committing",
        **session,
        "to": ["u@a.example", "v@a.example"],
        "bytes": size,
        "paths": [f"a/{host}"],
    }
    assert without_times(after) == {
        "level": "info",
        "event": "delivered",
        **session,
        "outcomes": [f"{who}@a.example delivered: 250 2.0.0 taken ({host})" for who in "uv"],
    }
    assert 0 <= after["seconds"] < PATIENCE
    assert f" id {before['id']};".encode() in mta.messages[0].content


def test_the_lines_of_one_id_tell_what_went_wrong(tmp_path: Path) -> None:
    broken = ScriptedMTA("broken", script=Script(ehlo=Close()))
    good = ScriptedMTA("good", script=Script(recipients={"nobody@a.example": "550 5.1.1 unknown"}))
    with NextHops() as hops:
        down, second, third = "127.0.0.1:1", hops.tcp(broken), hops.tcp(good)
        with Gateway(configuration(tmp_path, route("a", down, second, third)), tmp_path) as gateway:
            send(gateway, "nobody@a.example", "u@a.example")
            (last,) = gateway.wait_for(event="delivered")
            lines = gateway.lines(id=last["id"])
    assert [(line["level"], line["event"], line.get("path"), line.get("why", line.get("reply"))) for line in lines] == [
        ("warning", "attempt_failed", down, "Connection refused"),
        ("warning", "attempt_failed", second, "connection closed"),
        ("info", "recipient_refused", third, "550 5.1.1 unknown"),
        ("info", "committing", None, None),
        ("info", "delivered", None, None),
    ]
    assert [line.get("stage") for line in lines[:2]] == ["connect", "hello"]


def test_verbose_has_every_reply_of_both_sides(tmp_path: Path) -> None:
    mta = ScriptedMTA("a")
    with NextHops() as hops:
        config = configuration(tmp_path, route("a", hops.tcp(mta)))
        with Gateway(config, tmp_path, "--verbose") as gateway:
            send(gateway, "u@a.example")
            (last,) = gateway.wait_for(event="closed")
            lines = gateway.lines(id=last["id"])
    said = [(line["event"], line["to"].split(" ")[0].upper(), line["reply"][:3]) for line in lines if "reply" in line]
    assert [(verb, code) for event, verb, code in said if event == "reply"] == [
        ("GREETING", "220"),
        ("EHLO", "250"),
        ("MAIL", "250"),
        ("RCPT", "250"),
        ("DATA", "354"),
        ("END", "250"),
        ("QUIT", "221"),
    ]
    assert [(verb, code) for event, verb, code in said if event == "upstream_reply"] == [
        ("GREETING", "220"),
        ("EHLO", "250"),
        ("MAIL", "250"),
        ("RCPT", "250"),
        ("DATA", "354"),
        ("END", "250"),
    ]


def test_on_a_pipe_it_is_logfmt(tmp_path: Path) -> None:
    mta = ScriptedMTA("a", script=Script(dot='250 2.0.0 "quoted" \x1b[31m= red'))
    with NextHops() as hops:
        config = configuration(tmp_path, route("a", hops.tcp(mta)))
        with Gateway(config, tmp_path, log_format="") as gateway:
            send(gateway, "u@a.example")
            gateway.wait(lambda: "event=delivered" in gateway.log, "delivered")
    lines = gateway.log.split("\n")
    assert [line for line in lines if not LOGFMT.fullmatch(line)] == []
    assert "\x1b" not in gateway.log
    events = [line.split(" ")[2] for line in lines]
    assert events == [
        *["event=listening"] * 3,
        "event=ledger_empty",
        "event=committing",
        "event=delivered",
        "event=draining",
        "event=stopped",
    ]


@pytest.mark.parametrize("log_format", ["console", ""], ids=["asked for", "on a terminal"])
def test_for_people_it_is_coloured(tmp_path: Path, log_format: str) -> None:
    config = configuration(tmp_path, route("a", "127.0.0.1:1"))
    with Gateway(config, tmp_path, log_format=log_format, terminal=not log_format) as gateway:
        pass
    assert re.search(r"\x1b\[32minfo   \x1b\[0m \x1b\[1mlistening\x1b\[0m", gateway.log)


def test_a_log_that_cannot_be_written_costs_no_mail(tmp_path: Path) -> None:
    mta = ScriptedMTA("a")
    port = free_port()
    with NextHops() as hops, open("/dev/full", "wb") as full:
        config = tmp_path / "gateway.toml"
        config.write_text(configuration(tmp_path, route("a", hops.tcp(mta))).replace(":0", f":{port}", 1))
        with subprocess.Popen([*MAILGATE, "serve", "-c", str(config)], stdout=full, stderr=subprocess.PIPE) as process:
            try:
                eventually(lambda: accepts("127.0.0.1", port), "listening")
                with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=PATIENCE) as client:
                    client.sendmail("s@in.example", "u@a.example", MESSAGE)
                process.terminate()
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()
    assert len(mta.messages) == 1
