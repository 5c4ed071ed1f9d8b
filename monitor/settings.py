"""What an operator can set about the monitor; defaults and units stand here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from monitor.core.slice import Slice
from monitor.triggers.settings import RetrainSettings

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """Blocks, tolerance, false-alarm budget and the guards of automation."""

    host: str = "127.0.0.1"
    port: int = 8100
    block_s: float = 1.0
    lateness_s: float = 0.0  # extra wait after the watermark
    tolerance: float = 0.02  # a share of rows: shifts up to this are not drift
    loss_tolerance: float = 0.02
    outlier_tolerance: float = 0.005  # a share of rows: by so much that of outliers may rise
    budget_s: float = 90 * DAY_S  # mean time to a false page of a model
    false_alarms: str = ""  # the same in words, as "1 per 90d"; empty: budget_s
    warn_budget_s: float = 7 * DAY_S
    # What evidence takes as new: blocks, whatever their rows have in common, or each row.
    dependence: Literal["blocks", "rows"] = "blocks"
    rows_min: int = 200  # per arm, before a candidate is judged
    bake_s: float = 60.0  # least time on a step before the next
    advance: bool = True  # the monitor takes a healthy candidate to its next step
    rollback: bool = True  # act on a bad candidate; false: only say so
    undo: bool = True  # take a rollback back that turned out to have made it worse
    verify_s: float = 3600.0  # for so long the effect of a rollback is looked for
    retrain_hook: tuple[str, ...] = ()  # argv; empty: retraining is a dry run
    retrain_window_s: float = 600.0  # how much of the log the hook is pointed at
    approve: tuple[str, ...] = ()  # rollback, retrain, undo: done once an operator has approved it
    approve_s: float = 3600.0  # how long an action waits for that
    rollback_cooldown_s: float = 1800.0
    retrain_cooldown_s: float = 6 * 3600.0
    actions_per_day_max: int = 4
    loss_max_share: float = 0.05  # of rows unseen; above it the monitor is blind
    coarse_edges: int = 12  # edges per feature that evidence is gathered on
    continuous: bool = False  # treat every numeric feature as continuous
    # What a version is judged by: the reference that was pushed with it, its own first
    # traffic (warm-up), auto: the pushed one, and where there is none, its first traffic, or
    # rolling: its first traffic, and from then on that of the weeks before.
    reference: Literal["auto", "pushed", "warm-up", "rolling"] = "auto"
    rolling_models: tuple[str, ...] = ()  # as rolling, for these models whatever it is for others
    rolling_days: float = 28.0  # of traffic in a rolling reference; whole guards, at most 64
    rolling_guard_days: float = 7.0  # between it and what it judges, and from one to the next
    # By the hour of the week, where the pushed reference knows when its rows were.
    seasonal: bool = True
    warm_up_rows: int = 20_000  # at least so many
    warm_up_s: float = 30 * 3600.0  # and over so long: a day, and a fifth before it for the bins
    warm_up_skip_s: float = 60.0  # of a version's first traffic, which is no example of it
    # Rows of each live window that are kept, to see what features do together; 0: none.
    multivariate_rows: int = 500
    quantile_level: float = 0.0  # of the quantile loss of numbers, as 0.9; 0: it is not shown
    window_blocks: int = 40  # live distributions show the last one to two windows
    recent_change_s: float = 1800.0  # so young a stable version is under suspicion itself
    lag_max_s: float = 30.0  # statistics older than this are not acted on
    admin_urls: tuple[str, ...] = ()  # of gateways; any takes commands. Empty: this machine's
    admin_token_file: str = ""  # empty: that of this state directory
    instance: str = ""  # on Kafka: this one's name, kept over restarts. Empty: from the host
    session_s: float = 30.0  # on Kafka: a monitor that is gone for so long loses its partitions
    silence_s: float = 60.0  # on Kafka: a gateway that is silent for so long holds nothing back
    shipping_s: float = (
        2.0  # on Kafka: extra wait after the watermark, for a gateway's first records
    )
    handover_s: float = 30.0  # on Kafka: how often the state is put where a successor finds it
    retrain: RetrainSettings = field(default_factory=RetrainSettings)
    slices: Mapping[str, tuple[Slice, ...]] = field(default_factory=dict)  # by model, or `*`
