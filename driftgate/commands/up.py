"""`driftgate up`: gateway, shipper and monitor together, each restarted when it ends."""

import argparse

from driftgate import __version__
from driftgate.cli import common_options
from driftgate.config import Config, gateway_options, load_config, setting_options
from driftgate.processes import (
    Child,
    gateway_document,
    monitor_document,
    require_runtime,
    run_together,
    running_gateway,
    shipper_document,
)


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "up",
        help="gateway and monitor, left running",
        description="Run gateway and monitor, and the shipper where log.kafka is set, until "
        "SIGTERM or Ctrl-C; each is started again when it ends. Exit codes: 0 told to stop, "
        "2 bad configuration, 5 a port or the state directory cannot be had.",
        parents=[common_options(), setting_options(), gateway_options()],
    )
    parser.add_argument(
        "--with-demo-model",
        action="store_true",
        help="train and push the demo's digits classifier if the registry lacks it",
    )
    parser.set_defaults(run=run_up)


def run_up(args: argparse.Namespace) -> int:
    config = load_config(args)
    require_runtime()
    print(banner(config), flush=True)
    if args.with_demo_model:
        from driftgate.story.models import ensure_first_version

        ensure_first_version(config.registry_dir)
    return run_together(children(config), config.gateway.drain_s + 10.0)


def children(config: Config) -> list[Child]:
    """In the order in which they start and stop.

    The gateway first: what it wrote last is then shipped, and read by the monitor.
    """
    gateway = Child("serving", gateway_document(config))

    def after() -> bool:
        return has_its_ports(gateway, config)

    monitor = Child("monitor", monitor_document(config), after)
    if not config.log.kafka:
        return [gateway, monitor]
    return [gateway, Child("eventlog.kafka", shipper_document(config), after), monitor]


def has_its_ports(gateway: Child, config: Config) -> bool:
    """Whether this gateway holds the state directory, ports and all; it says so itself."""
    running = running_gateway(config)
    return gateway.process is not None and running is not None and running[0] == gateway.process.pid


def banner(config: Config) -> str:
    """Where everything is, as the first lines of the output."""
    return "\n".join(
        (
            f"driftgate {__version__}",
            f"  predict  {config.http_url}/v2  and gRPC {config.grpc_address}"
            f"{' (TLS)' if config.gateway.tls.enabled else ''}",
            f"  metrics  {config.metrics_url}",
            f"  admin    {config.admin_url}  (token in {config.admin_token_path})",
            f"  monitor  {config.monitor_url}",
            f"  state    {config.state_dir}",
            *([f"  kafka    {config.log.kafka}"] if config.log.kafka else []),
        )
    )
