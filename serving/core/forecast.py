"""When a request would be answered, and how large a batch a deadline allows.

Both read the version's `LatencyProfile`. Laws: a version that is idle takes whatever
comes, so an estimate that has become too high cannot keep traffic away for ever; a
batch is cut for its first deadline only where that leaves its rows about as cheap,
since small batches make everybody behind it late. What slows all runs down, others on
the same core above all, is kept apart from the profile, as one factor that the next few
runs show whatever their size: so sizes that did not run meanwhile are not taken for fast.
"""

from serving.core.latency import LatencyProfile

ROW_SHIFT = 3  # the moving means of rows weigh the last run 1/8
# A cut batch may cost so much more per row than a full one, in quarters. Beyond it, under
# load, saving one deadline would cost several.
ROW_COST_QUARTERS = 6
# How much longer runs take of late than their profile says, in 1/256. It weighs the last
# run 1/4, and one that took twice or half of what was forecast no more than that: it may
# be an outlier. Two of them in a row are not, and are believed.
PLAIN, DRAG_SHIFT = 256, 2
DRAG_MIN, DRAG_MAX = PLAIN // 8, PLAIN * 16  # beyond, it is the profile that is wrong
# Of so many runs one is put into the profile, as if nothing slowed it down: what is common
# to all sizes must show in the factor before any size is blamed for it.
PROFILED_EVERY = 4
OUTLIER = 4  # times its forecast is the most that a run counts there


class Forecast:
    """Estimates for one version's queue; all in nanoseconds."""

    __slots__ = (
        "_alike", "_drag", "_full_likely_ns", "_full_surely_ns", "_instances", "_last_drag",
        "_row_ns", "_runs", "_unit",
        "profile", "rows_at_once", "rows_max",
    )  # fmt: skip

    def __init__(
        self, profile: LatencyProfile, rows_max: int, *, alike: bool, instances: int = 1
    ) -> None:
        """alike: all rows have one shape, so work is rows. instances: runs at a time."""
        self.profile = profile
        self.rows_max, self._alike, self._instances = rows_max, alike, instances
        # Of the next runs, if they are full: so many may wait and are no queue.
        self.rows_at_once = rows_max * instances
        points = profile.points()
        self._unit = 1 if alike or not points else max(1, points[-1].work // rows_max)
        self._row_ns = points[-1].mean_ns // rows_max if points else 0
        self._drag = self._last_drag = PLAIN
        self._runs = 0
        self._refresh()

    def _refresh(self) -> None:
        self._full_surely_ns = self._surely_ns(self.rows_max * self._unit)
        self._full_likely_ns = self.likely_ns(self.rows_max)

    @property
    def slowed_by(self) -> float:
        """How many times as long as the profile says runs take of late."""
        return self._drag / PLAIN

    def _surely_ns(self, work: int) -> int:
        return self.profile.surely_ns(work) * self._drag >> 8

    def ran(self, rows: int, work: int, took_ns: int, *, cold: bool = False) -> None:
        """A run of `rows`, 0 or more, has taken so long.

        work: see `LatencyProfile`. cold: nothing had run for long, so that the caches were
        somebody else's; no sign that what follows will be as slow.
        """
        expected_ns = self.profile.likely_ns(work)
        if expected_ns:
            self._slowed_by(PLAIN * took_ns // expected_ns, cold)
        took_ns = PLAIN * took_ns // self._drag
        self._runs += 1
        if not DRAG_MIN < self._drag < DRAG_MAX or not self.profile.has_run(work):
            self.profile.observe(work, took_ns, wrong=True)
        elif self._runs % PROFILED_EVERY == 0:
            self.profile.observe(work, min(took_ns, OUTLIER * expected_ns))
        if not self._alike and rows:
            self._unit += (work // rows - self._unit) >> ROW_SHIFT
            self._unit = max(self._unit, 1)
            self._row_ns += (took_ns // rows - self._row_ns) >> ROW_SHIFT
        self._refresh()

    def _slowed_by(self, now: int, cold: bool) -> None:
        """A run took `now` / PLAIN of what the profile says."""
        drag, last = self._drag, self._last_drag
        if min(now, last) > 2 * drag:
            drag = min(now, last)
        elif 2 * max(now, last) < drag:
            drag = max(now, last)
        else:
            drag += (min(max(now, drag // 2), 2 * drag) - drag) >> DRAG_SHIFT
        self._drag = min(max(drag, DRAG_MIN), DRAG_MAX)
        self._last_drag = self._drag if cold else now

    @property
    def full_ns(self) -> int:
        """What a full batch surely stays below."""
        return self._full_surely_ns

    def run_ns(self, work: int) -> int:
        """What a run of `work` surely stays below."""
        return self._surely_ns(work)

    def answer_ns(self, rows_before: int, rows: int, rows_after: int, slack_ns: int) -> int:
        """From the next free instance to the answer of a request of `rows`.

        rows_before: of those that wait and run before it, or share its batch. rows_after:
        that will come before its batch begins, and may share it. slack_ns: until its
        deadline; no batch that it is in will be larger than that allows. All of them may
        take as long as runs hardly ever do: who is let in on the mean has no slack left when
        its turn comes, and batches are cut for it.
        """
        if not self._alike:  # one batch holds one shape, so rows say little about batches
            own_ns = self._surely_ns(rows * self._unit)
            before_ns = rows_before * self._row_ns * self._drag >> 8
            return before_ns // self._instances + own_ns
        most = self._rows_within(slack_ns)
        full, rest = divmod(rows_before, most)
        if rest and rest + rows > most:
            full, rest = full + 1, 0
        own_ns = self._surely_ns(max(rest + rows, min(rest + rows + rows_after, most)))
        return full * self._surely_ns(most) // self._instances + own_ns

    def wait_ns(self, rows_before: int) -> int:
        """How long so many rows take that wait, as runs take on average and in full batches."""
        if self._alike:
            return rows_before * self._full_likely_ns // self.rows_at_once
        return (rows_before * self._row_ns * self._drag >> 8) // self._instances

    def _rows_within(self, slack_ns: int) -> int:
        """The most rows of one batch that surely take no longer; 1 if none do."""
        if self._full_surely_ns <= slack_ns:
            return self.rows_max
        plain_ns = PLAIN * slack_ns // self._drag
        return self.profile.work_within(plain_ns, self.rows_max) or 1

    def soon_enough(self, rows_before: int, slack_ns: int) -> bool:
        """Whether it is certain without a closer look that a request can be answered in time."""
        batches = rows_before // self.rows_max + 3  # one runs, the last is shared, or split
        return batches * self._full_surely_ns <= slack_ns and (
            self._alike
            or (rows_before * self._row_ns * self._drag >> 8) + self._full_surely_ns <= slack_ns
        )

    def rows_for(self, slack_ns: int, waiting: int) -> int:
        """The most rows of a batch whose first deadline is so far away.

        waiting: rows that could run together, up to a full batch. Returns: 0 if no batch
        would be in time that is worth it.
        """
        if self.likely_ns(waiting) <= slack_ns:
            return self.rows_max
        plain_ns = PLAIN * slack_ns // self._drag
        rows = self.profile.work_within(plain_ns, self.rows_max * self._unit) // self._unit
        part_ns = self.likely_ns(rows)
        if 4 * part_ns * waiting <= ROW_COST_QUARTERS * self.likely_ns(waiting) * rows:
            return rows
        return 0

    def likely_ns(self, rows: int) -> int:
        """What a run of so many rows takes on average."""
        return self.profile.likely_ns(rows * self._unit) * self._drag >> 8
