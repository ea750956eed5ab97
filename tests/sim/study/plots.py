"""The plots of the study, as SVG files that depend on nothing but the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.site import Topology
from sim.study.designs import Design
from sim.study.failures import DAY, HOUR
from sim.study.figures import TITLES, Figures, needless, not_delivered, per_million, useless
from sim.study.measure import Direction, Place, Tally

_COLOURS: Mapping[Design, str] = {
    Design.CONVENTIONAL: "#b2182b",
    Design.FALLBACK: "#ef8a62",
    Design.PAPER: "#67a9cf",
    Design.MAILGATE: "#084594",
}

_PLACES: Mapping[Place, str] = {Place.SENDER: "#9ecae1", Place.GATEWAY: "#b2182b", Place.RETURNED: "#fdb863"}

_TICKS = {
    1.0: "1 s",
    60.0: "1 min",
    600.0: "10 min",
    HOUR: "1 h",
    6 * HOUR: "6 h",
    DAY: "1 d",
    5 * DAY: "5 d",
}
_STEPS = 240
_TIMES = [0.1 * (6 * DAY / 0.1) ** (step / _STEPS) for step in range(_STEPS + 1)]

DELAYS, LATE, USELESS = "availability-delays.svg", "availability-late.svg", "availability-useless.svg"


def draw(figures: Figures, folder: Path) -> None:
    """Write all plots into a folder."""
    with mpl.rc_context():
        mpl.rcParams["svg.hashsalt"] = "mailgate"
        mpl.rcParams["svg.fonttype"] = "none"
        mpl.rcParams["font.size"] = 9
        mpl.rcParams["axes.spines.top"] = mpl.rcParams["axes.spines.right"] = False
        _save(_delays(figures), folder / DELAYS)
        _save(_late(figures), folder / LATE)
        _save(_useless(figures), folder / USELESS)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n", "utf-8")


def _delays(figures: Figures) -> Figure:
    figure = Figure(figsize=(8.5, 6.2), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for row, topology in zip(panels, Topology, strict=True):
        for axes, direction in zip(row, Direction, strict=True):
            for design in Design:
                shares = not_delivered(figures.tally(design, topology, direction), _TIMES)
                axes.plot(_TIMES, shares, drawstyle="steps-post", color=_COLOURS[design], label=design.value, lw=1.4)
            axes.set_title(f"{direction.value}, {TITLES[topology]}")
            _logarithmic(axes)
    for axes in panels[-1]:
        axes.set_xlabel("time since submission")
    for row in panels:
        row[0].set_ylabel("recipients without their message")
    panels[0][0].legend(frameon=False)
    return figure


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(0.1, 6 * DAY)
    axes.set_ylim(1e-6, 1)
    axes.set_xticks(list(_TICKS), labels=list(_TICKS.values()))
    axes.minorticks_off()
    shares = {
        1.0: "all",
        0.1: "10 %",
        0.01: "1 %",
        1e-3: "0.1 %",
        1e-4: "1 in 10,000",
        1e-5: "1 in 100,000",
        1e-6: "1 in a million",
    }
    axes.set_yticks(list(shares), labels=list(shares.values()))
    axes.grid(color="#dddddd", lw=0.5)


def _late(figures: Figures) -> Figure:
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, sharex=True)
    designs = list(Design)[::-1]
    for axes, topology in zip(panels, Topology, strict=True):
        tallies = [figures.tally(design, topology) for design in designs]
        names = [design.value for design in designs]
        left = [0.0] * len(designs)
        for place, colour in _PLACES.items():
            widths = [per_million(one.late[place], one.recipients) for one in tallies]
            axes.barh(names, widths, left=left, color=colour, label=place.value)
            left = [begin + width for begin, width in zip(left, widths, strict=True)]
        axes.plot([needless(one) for one in tallies], names, "k|", ms=16, mew=2, label="though there was a way")
        axes.set_title(TITLES[topology])
        axes.set_xlabel("of a million recipients, nothing after an hour")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=len(labels))
    return figure


def _useless(figures: Figures) -> Figure:
    figure = Figure(figsize=(8.5, 2.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    designs = list(Design)[::-1]
    measures: tuple[tuple[str, Callable[[Tally], float]], ...] = (
        ("useless transfers to gateways\nfor a thousand messages", useless),
        (
            "recipients of a million that never got it",
            lambda one: per_million(one.returned.total(), one.recipients),
        ),
    )
    for axes, (label, value) in zip(panels, measures, strict=True):
        for shift, topology in ((0.2, Topology.ONE_SITE), (-0.2, Topology.TWO_SITES)):
            values = [value(figures.tally(design, topology)) for design in designs]
            places = [place + shift for place in range(len(designs))]
            colour = "#444444" if topology is Topology.TWO_SITES else "#aaaaaa"
            axes.barh(places, values, height=0.36, color=colour, label=TITLES[topology])
        axes.set_yticks(range(len(designs)), labels=[design.value for design in designs])
        axes.set_xlabel(label)
    panels[1].legend(frameon=False, loc="lower right")
    return figure
