"""What a batcher does in plain sentences, then its figures; of the admin API's document."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from driftgate.commands.tables import table
from serving.core.tuning import duration

# What the labels of refusals mean, in the order in which they are told.
_REASONS = {
    "overload": "overload (a queue or the budget was full, or the answer would have come too late)",
    "deadline": "deadline passed before they were queued",
    "invalid": "not as the model takes them",
    "too_large": "too large",
    "unknown_model": "no such version",
    "unsupported": "not spoken here",
}
SLOWED_MIN = 1.1  # below it is noise
_REFUSED_SINCE_LOAD = {
    "refused_full": "as many waited as max_queue_size allows",
    "refused_late": "the answer would have come after the deadline",
    "refused_standing": "they named no deadline, and the queue had been too long for a while",
}
_CODES = {
    "499": "clients that left",
    "500": "the model failed",
    "503": "waited too long in the queue, or the log could not commit",
    "504": "deadline passed in the queue or while they ran",
}


def as_lines(document: Mapping[str, Any]) -> list[str]:
    """document: of `GET /v1/models/MODEL/batching`."""
    lines: list[str] = []
    for version in document["versions"]:
        lines += [*_heading(document["model"], version), *_indented(_version(version))]
        lines += _indented(_tables(version))
    if not lines:
        lines = [f"{document['model']}: no worker has loaded a version of it"]
    return lines + list(_of_model(document["counted"]))


def _indented(lines: Iterator[str]) -> list[str]:
    return [f"  {line}".rstrip() for line in lines]


def _heading(model: str, version: Mapping[str, Any]) -> list[str]:
    role, weight = version["role"], version["weight"]
    traffic = f"{role}, {weight} % of the traffic" if weight else f"{role}, no traffic by itself"
    count = len(version["workers"])
    lines = [f"{model} version {version['version']}: {traffic}, on {_number(count, 'worker')}"]
    if version["silent_workers"]:
        silent = ", ".join(map(str, version["silent_workers"]))
        lines.append(f"  ! not told by worker {silent}, which did not answer in time")
    return lines


def _version(version: Mapping[str, Any]) -> Iterator[str]:
    counted, so, force = version["counted"], version["together"], version["in_force"]
    if so is not None:
        yield _place(so, force)
        yield _company(so, force)
        if force["padding"] is not None:
            yield _padding(so, force["padding"])
        yield _order(so, force)
    yield _seen(counted)
    if counted["elements"]["sent"]:
        yield _padded_share(counted["elements"])
    for code, number in counted["failed"].items():
        yield f"{_number(number, 'request')} ended with {code}: {_CODES.get(code, 'refused')}."
    if so is not None:
        for key, why in _REFUSED_SINCE_LOAD.items():
            if so[key]:
                count = _number(so[key], "request")
                yield f"{count} refused once read, since it was loaded: {why}."
        yield from _limits(version)
        yield _now(so)


def _place(so: Mapping[str, Any], force: Mapping[str, Any]) -> str:
    """Where runs are, and the measurement that put them there."""
    limit, slow = duration(force["inline_ns_max"]), duration(force["slow_ns"])
    inline, workers, load_ns = so["inline_workers"], so["workers"], so["load_run_ns"]
    full = "how long they take could not be measured at load"
    if load_ns is not None:
        most = _number(max(1, force["max_batch_size"]), "row")
        full = f"the largest batch tried at load, of {most} at most, took {duration(load_ns)}"
    if inline == workers:
        return (
            f"Runs are on the event loop: {full}, and up to {limit} stay there "
            f"(should they come to average above {slow}, they go to a thread)."
        )
    where = "in threads" if not inline else f"in threads on {workers - inline} of {workers} workers"
    several = f", up to {so['instances']} at a time" if so["instances"] > workers else ""
    if so["inline_at_load_workers"] > inline:
        mean = duration(so["mean_run_ns_max"])
        return (
            f"Runs are {where}{several}: they came to average above {slow}, {mean} lately; {full}."
        )
    return f"Runs are {where}{several}: {full}; only up to {limit} stay on the event loop."


def _company(so: Mapping[str, Any], force: Mapping[str, Any]) -> str:
    """Who shares a run with whom."""
    most = force["max_batch_size"]
    if not most:
        return "Every request runs alone: the model does not batch."
    preferred = ", ".join(map(str, force["preferred_sizes"]))
    but = f" but for '{force['padding']['axis']}'" if force["padding"] is not None else ""
    shapes = (
        f", if {' and '.join(force['open_inputs'])} have the same shape{but}"
        if force["open_inputs"]
        else ""
    )
    if so["hold_ns"]:
        until = f"one of {preferred} rows" if preferred else f"{most} rows"
        return (
            f"A free session waits up to {duration(so['hold_ns'])} for {until}; "
            f"at most {most} run together{shapes}."
        )
    sizes = f", in batches of {preferred} rows where enough wait" if preferred else ""
    return (
        f"Nobody waits for company: what came while the last batch ran is the next one, up to "
        f"{most} rows{shapes}{sizes}."
    )


def _padding(so: Mapping[str, Any], padding: Mapping[str, Any]) -> str:
    lengths = ", ".join(map(str, padding["lengths"]))
    always = f"Requests are padded along '{padding['axis']}' to {lengths}. " if lengths else ""
    return (
        f"{always}Other lengths along '{padding['axis']}' are padded into a run where that "
        f"adds less than {so['positions_paid']} positions (rows times length), which is what a "
        "run of their own would cost."
    )


def _padded_share(elements: Mapping[str, int]) -> str:
    sent, padding = elements["sent"], elements["padding"]
    return f"Of the input elements that ran {padding / (sent + padding):.1%} were padding."


def _order(so: Mapping[str, Any], force: Mapping[str, Any]) -> str:
    if force["preserve_ordering"]:
        return "Requests run in the order in which they came, one batch at a time."
    levels, default = force["priority_levels"], force["default_priority_level"]
    first = f"by {levels} priorities ({default} where none is named), then " if levels > 1 else ""
    cut = ", in batches that still meet it" if force["max_batch_size"] and not so["hold_ns"] else ""
    return f"Requests run {first}by deadline, the earliest first{cut}."


def _seen(counted: Mapping[str, Any]) -> str:
    requests, rows, runs = counted["requests"], counted["rows"], counted["runs"]
    if not runs:
        return "Nothing has run yet."
    return (
        f"{_number(requests, 'request')} with {_number(rows, 'row')} in {_number(runs, 'run')}, "
        f"{rows / runs:.1f} rows a run; a request waited {duration(counted['mean_wait_ns'])} for "
        "its run on average."
    )


def _limits(version: Mapping[str, Any]) -> Iterator[str]:
    force = version["in_force"]
    budgets = [worker["admission"] for worker in version["workers"]]
    held, most = max(b["rows"] for b in budgets), budgets[0]["rows_max"]
    queue = force["max_queue_size"]
    own = f"at most {_number(queue, 'request')} of it wait on a worker, and " if queue else ""
    yield f"Limits: {own}a worker has {most:,} rows in flight for all models (held now: {held:,})."
    if budgets[0]["tenants"] is not None:
        sharing = max(b["tenants"] for b in budgets)
        yield f"Tenants share these rows: {_number(sharing, 'tenant')} on one worker now."
    if force["default_timeout_us"]:
        late = "runs when nobody else waits" if force["timeout_delays"] else "is refused"
        may = "may" if force["allow_timeout_override"] else "may not"
        yield (
            f"Who waits more than {duration(force['default_timeout_us'] * 1000)} {late}; requests "
            f"{may} name another timeout."
        )


def _now(so: Mapping[str, Any]) -> str:
    running = f"; {_number(so['running'], 'batch', 'batches')} in threads" if so["running"] else ""
    if not so["queued"]:
        return f"Now nobody waits{running}."
    shapes = so["shapes_queued_max"]
    kinds = f", of {shapes} shapes on one worker" if shapes > 1 else ""
    return (
        f"Now {_number(so['queued'], 'request')} with {_number(so['rows_queued'], 'row')} "
        f"wait{kinds}, one for {duration(so['oldest_wait_ns'])}{running}."
    )


def _tables(version: Mapping[str, Any]) -> Iterator[str]:
    so, batches = version["together"], version["counted"]["batches"]
    if so is not None and so["profile"]:
        work = "rows up to" if so["work_is_rows"] else "elements up to"
        rows: list[tuple[str, ...]] = [(work, "samples", "mean", "19 of 20 below")]
        rows += [
            (f"{p['work']:,}", f"{p['runs']:,}", duration(p["mean_ns"]), duration(p["high_ns"]))
            for p in so["profile"]
        ]
        yield "what runs take, by which batches are cut and requests refused (load included):"
        if so["slowed_by_max"] >= SLOWED_MIN:
            yield f"  (of late runs take {so['slowed_by_max']:.1f} times as long)"
        yield from (f"  {line}" for line in table(rows, left=()))
    if batches:
        runs = sum(batch["runs"] for batch in batches)
        rows = [("batch rows", "runs", "share", "mean run")]
        rows += [
            (name, f"{count:,}", f"{count / runs:.1%}", duration(mean_ns))
            for name, count, mean_ns in by_size(batches)
        ]
        yield "batches that ran:"
        yield from (f"  {line}" for line in table(rows, left=()))


def by_size(batches: Sequence[Mapping[str, int]]) -> list[tuple[str, int, float]]:
    """(rows, runs, mean time in ns) of sizes that double; batches: rising in rows."""
    classes: dict[int, list[Mapping[str, int]]] = {}
    for batch in batches:
        classes.setdefault((batch["rows"] - 1).bit_length() if batch["rows"] > 1 else 0, []).append(
            batch
        )
    found = []
    for index, each in classes.items():
        runs = sum(batch["runs"] for batch in each)
        mean_ns = sum(batch["runs"] * batch["mean_run_ns"] for batch in each) / max(1, runs)
        low, high = (1 << index - 1) + 1 if index > 1 else 1 << index, 1 << index
        found.append((f"{high}" if low >= high else f"{low} to {high}", runs, mean_ns))
    return found


def _of_model(counted: Mapping[str, Any]) -> Iterator[str]:
    refused, waits = counted["refused"], counted["wait_s_max"]
    yield "all versions, since the state directory began:"
    if waits["p50"] is not None:
        p99_s = waits["p99"]
        most = "1 % more than 10 s" if p99_s is None else f"99 % at most {duration(p99_s * 1e9)}"
        yield (
            f"  Half of the requests waited at most {duration(waits['p50'] * 1e9)} for their run, "
            f"{most}."
        )
    ordered = sorted(refused, key=lambda reason: [*_REASONS, reason].index(reason))
    if not refused:
        yield "  No request was refused."
    for reason in ordered:
        number = _number(refused[reason], "request")
        yield f"  {number} refused: {_REASONS.get(reason, reason)}."
    if counted["cancelled"]:
        yield f"  {_number(counted['cancelled'], 'client')} left before the reply."


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
