"""`driftgate bench`: what a model can take, what requests cost, what loads disturb, what waits."""

import argparse

from driftgate.commands import (
    bench_all,
    bench_log,
    bench_model,
    bench_monitor,
    bench_requests,
    bench_traffic,
)


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("bench", help="measure this machine")
    verbs = parser.add_subparsers(metavar="verb", required=True)
    for part in (bench_all, bench_model, bench_requests, bench_traffic, bench_log, bench_monitor):
        part.register(verbs)
