"""Trio's scheduler, made repeatable."""

from __future__ import annotations

import trio


def seeded(seed: int) -> None:
    """Make the order in which Trio runs its tasks a function of `seed`, from the next `trio.run` on.

    Trio shuffles runnable tasks on purpose. With this, the same seed gives the same run, and other seeds
    explore other interleavings. It holds for the process, and reaches into Trio's private names, which
    `tests/testing/test_scheduler.py` watches. Hypothesis seeds the same generator anew for each example: there,
    draw the seed as an example and call this from a plain `@given` function, before its `trio.run`.
    """
    run = trio._core._run
    if not hasattr(run, "_ALLOW_DETERMINISTIC_SCHEDULING") or not hasattr(run, "_r"):
        raise RuntimeError(
            f"Trio {trio.__version__} has no deterministic scheduling where mailgate.testing.seeded looks for it "
            "(trio._core._run); use Trio 0.35, or adapt seeded()"
        )
    # The name is Final, so an assignment would not pass the type checker.
    setattr(run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)  # noqa: B010
    run._r.seed(seed)
