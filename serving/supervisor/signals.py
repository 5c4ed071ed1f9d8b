"""Signals that wait while nobody could heed them.

Law: a SIGTERM, SIGINT or SIGHUP is never lost and never ends the process by default,
neither while it starts nor across its exec: the mask outlives an exec, and what is
held back is delivered when the new program heeds it. Threads hold signals back all
their life, so that the one that heeds them is the main thread.
"""

import signal

HEEDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def hold_back() -> None:
    """For the calling thread and those that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)


def heed() -> None:
    """Handlers are in place: whatever came meanwhile comes now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
