"""`mailgate demo`: two gateways on loopback addresses, broken one after another, and every promise checked.

history.py    what happened, as plain values
checker.py    history in, breaches out; pure
links.py      the real network with links that can be cut
world.py      the hosts: gateways and scripted servers on real sockets
scenarios.py  the table of what is broken and what must be answered
play.py       a scenario's message, from the first try to its last copy
board.py      how it looks
serving.py    `--serve`
run.py        from the first line to the exit status
"""
