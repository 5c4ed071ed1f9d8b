"""Signals that wait while nobody could heed them.

Law: a SIGTERM, SIGINT or SIGHUP is never lost and never ends the process by default,
neither while it starts nor across its exec: the mask outlives an exec, and what is
held back is delivered when the new program heeds it. Threads hold signals back all
their life, so that the one that heeds them is the main thread.
"""

import asyncio
import os
import signal

_HEEDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def hold_back() -> None:
    """For the calling thread and those that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)


class Told:
    """The first signal that the running loop hears; what comes after a SIGHUP is passed on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.first: asyncio.Future[signal.Signals] = self._loop.create_future()

    def heed(self) -> None:
        """From here on signals are heard; whatever came meanwhile comes now."""
        for number in _HEEDED:
            self._loop.add_signal_handler(number, self._heard, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEEDED)

    async def rest_passed_on(self) -> None:
        """After a SIGHUP: whatever was caught before it was heard waits for the next program."""
        for _ in range(3):  # the loop reads what was caught, makes a callback of it, and calls it
            await asyncio.sleep(0)

    def _heard(self, number: signal.Signals) -> None:
        if not self.first.done():
            if number is signal.SIGHUP:
                hold_back()  # what comes from now on is for the program that follows
            self.first.set_result(number)
        elif self.first.result() is signal.SIGHUP:
            # It was caught between the SIGHUP and the line above: sent again, it is held back.
            os.kill(os.getpid(), number)
