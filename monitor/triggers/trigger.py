"""What every trigger is: one way of asking for a training."""

from typing import Protocol

from monitor.triggers.core.request import Request
from monitor.triggers.core.retry import Attempt


class InvalidTrigger(ValueError):
    """Settings that no request can be made of; the message says which."""


class Trigger(Protocol):
    @property
    def repeatable(self) -> bool:
        """Whether the request may be sent again after a restart, under the same id."""

    def attempt(self, request: Request) -> Attempt:
        """Ask once; called in a thread of the request's own."""

    def check(self) -> str:
        """What would keep it from being asked now, found out without asking; empty: nothing."""

    def show(self, request: Request) -> str:
        """What would be sent, as text; in the place of secrets, that there are some."""

    def stop(self) -> None:
        """The monitor ends: so does what was started and cannot go on without it."""
