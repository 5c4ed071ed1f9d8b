"""Whether a queue stands: whether its wait has been too long for longer than a burst lasts.

A burst makes a long queue too, but one that soon goes, and to refuse it would lose what
could have been answered. A queue that stays long while it is served is more work than can
be done: every newcomer waits as long as the one before it, and none gains by it. So who
names no deadline is let in until the wait has been above its limit for an interval, or
is twice the limit, and from then on while it is below the limit. That bounds the wait and
never lets the executor run out of work. When the load falls nobody is refused any more;
that the next burst is one again is believed when the wait has been short for a while, or
an overload with gaps in it would be a new burst after each.

Asked at arrivals only: no timer, and who does not arrive is not refused.
Source: the interval is CoDel's (Nichols and Jacobson, ACM Queue 10(5), 2012), which looks
at the wait of those that leave; this one is forecast, so nobody waits to be refused.
"""

# Of the limit is an interval: at N times the capacity the wait rises (N - 1) / 10 of the
# limit above it, once, before anybody is refused.
INTERVAL_PART = 10
MOST = 2  # times the limit: nobody lets more work pass for a burst
# Of the limit is a short wait: at the limit itself the queue would be gone with every
# batch that leaves.
SHORT_PART = 2
# Limits that waits have to be short for: traffic that comes in bursts of its own, with
# pauses, has to leave the queue empty for most of them.
MEMORY = 4


class StandingQueue:
    """Of one version; each level sees a queue of its own. Times in nanoseconds."""

    __slots__ = ("_above_since_ns", "_long_ns", "calm", "wait_ns_max")

    def __init__(self, wait_ns_max: int) -> None:
        """wait_ns_max: that a newcomer may have before it while the queue stands."""
        self.wait_ns_max = wait_ns_max
        self._above_since_ns: dict[int, int] = {}  # of queues that may be bursts, by level
        self._long_ns: dict[int, int] = {}  # of queues that stand: when last seen not short
        self.calm = True  # there is nothing that a short wait would end

    def over_ns(self, now_ns: int, wait_ns: int, level: int = 0) -> int:
        """By how much a newcomer would wait too long; 0: it is let in."""
        over_ns = self._over_ns(now_ns, wait_ns, level)
        self.calm = not self._long_ns and not self._above_since_ns
        return over_ns

    def _over_ns(self, now_ns: int, wait_ns: int, level: int) -> int:
        over_ns, long_ns = wait_ns - self.wait_ns_max, self._long_ns
        if level not in long_ns:
            if over_ns <= 0:
                self._above_since_ns.pop(level, None)
                return 0
            since_ns = self._above_since_ns.setdefault(level, now_ns)
            lasts = INTERVAL_PART * (now_ns - since_ns) >= self.wait_ns_max
            if not lasts and wait_ns <= MOST * self.wait_ns_max:
                return 0
            del self._above_since_ns[level]
        elif SHORT_PART * wait_ns <= self.wait_ns_max:
            if now_ns - long_ns[level] >= MEMORY * self.wait_ns_max:
                del long_ns[level]
            return 0
        long_ns[level] = now_ns
        return max(0, over_ns)
