"""`driftgate ship`: the shipper alone, from the log in a state directory to Kafka."""

import argparse

from driftgate.cli import common_options
from driftgate.config import Config, load_config, setting_options
from driftgate.errors import CliError, Exit
from driftgate.processes import become, shipper_document


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "ship",
        help="the shipper alone: the prediction log to Kafka",
        description="Ship the prediction log to Kafka, beside a gateway that runs already "
        "(`driftgate up` does so by itself where log.kafka is set). It may be stopped or killed at "
        "any time: it goes on where it was. Exit codes: 0 told to stop, 2 bad configuration, "
        "5 another one runs, or the state directory cannot be had.",
        parents=[common_options(), setting_options()],
    )
    parser.set_defaults(run=run_ship)


def run_ship(args: argparse.Namespace) -> int:
    config = load_config(args)
    require_kafka(config)
    return become("eventlog.kafka", shipper_document(config))


def require_kafka(config: Config) -> None:
    """Raises: CliError unless the log goes to Kafka."""
    if not config.log.kafka:
        raise CliError(
            "there is nothing to ship to",
            "log.kafka is not set",
            'kafka = "host:9092" in section [log], or --log-kafka host:9092',
            Exit.USAGE,
        )
