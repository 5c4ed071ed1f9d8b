"""The log of a state directory, and what to say where it cannot be read."""

from collections.abc import Iterator
from contextlib import contextmanager

from driftgate.config import Config
from driftgate.errors import CliError


def check_directory(config: Config) -> None:
    if not config.log_dir.is_dir():
        raise CliError(
            f"there is no prediction log in {config.state_dir}",
            hint="name the directory of a gateway that has served: --state-dir DIR",
        )


@contextmanager
def readable() -> Iterator[None]:
    """Say in one sentence why the log cannot be read."""
    from eventlog import LogError

    try:
        yield
    except (LogError, PermissionError) as error:
        raise CliError("the prediction log cannot be read", str(error)) from error
