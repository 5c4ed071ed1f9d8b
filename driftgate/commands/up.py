"""`driftgate up`: gateway and monitor together, each restarted when it ends."""

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
)


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "up",
        help="gateway and monitor, left running",
        description="Run gateway and monitor until SIGTERM or Ctrl-C; each is started again when "
        "it ends. Exit codes: 0 told to stop, 2 bad configuration, 5 a port or the state "
        "directory cannot be had.",
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
    # The gateway first, also when stopping: the monitor then reads what it wrote last.
    gateway = Child("serving", gateway_document(config))
    monitor = Child(
        "monitor", monitor_document(config), after=lambda: has_its_ports(gateway, config)
    )
    return run_together([gateway, monitor], config.gateway.drain_s + 10.0)


def has_its_ports(gateway: Child, config: Config) -> bool:
    """Whether this gateway holds the state directory, ports and all; it says so itself."""
    running = running_gateway(config)
    return gateway.process is not None and running is not None and running[0] == gateway.process.pid


def banner(config: Config) -> str:
    """Where everything is, as the first lines of the output."""
    return "\n".join(
        (
            f"driftgate {__version__}",
            f"  predict  {config.http_url}/v2  and gRPC {config.grpc_address}",
            f"  metrics  {config.metrics_url}",
            f"  admin    {config.admin_url}  (token in {config.admin_token_path})",
            f"  monitor  {config.monitor_url}",
            f"  state    {config.state_dir}",
        )
    )
