"""Asking the monitor over HTTP: its address, its answers, its refusals."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from driftgate.config import Config, load_config, reachable
from driftgate.errors import CliError, Exit, sentence_of

if TYPE_CHECKING:
    import argparse

TIMEOUT_S = 30.0


def add_url_option(parser: "argparse.ArgumentParser") -> None:
    parser.add_argument(
        "--url", metavar="URL", help="of the monitor; default: the one of this state directory"
    )


def base_url(args: "argparse.Namespace") -> str:
    """The monitor that was named, else that of the state directory; no slash at the end."""
    url: str = args.url or monitor_url(load_config(args))
    return url.rstrip("/")


def monitor_url(config: Config) -> str:
    """Where the monitor said that it listens, else where it would."""
    try:
        address = (config.state_dir / "monitor" / "address").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return config.monitor_url
    host, _, port = address.rpartition(":")
    return f"http://{reachable(host)}:{port}"


def ask(url: str) -> dict[str, Any]:
    """A JSON document. Raises: CliError for a refusal, a silence, or what is no monitor."""
    try:
        found: dict[str, Any] = json.loads(fetch(url))
    except ValueError as error:
        raise _silence(url, error) from error
    return found


def fetch(url: str, timeout_s: float = TIMEOUT_S) -> bytes:
    """Raises: CliError for a refusal or a silence."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=timeout_s) as reply:
            body: bytes = reply.read()
            return body
    except HTTPError as error:
        with error:
            raise CliError("the monitor has no answer", sentence_of(error)) from error
    except (OSError, ValueError, HTTPException) as error:
        raise _silence(url, error) from error


def _silence(url: str, error: Exception) -> CliError:
    hint = "start one with `driftgate up` or `driftgate monitor`, or name its --url"
    cause = f"{url}: {getattr(error, 'reason', error)}"
    return CliError("no monitor answers", cause, hint, Exit.UNREACHABLE)


def show_model(
    args: "argparse.Namespace", page: str, lines: Callable[[dict[str, Any]], list[str]]
) -> None:
    """Print what the monitor says of `args.model` on a page, as JSON or in lines.

    page: below the model's address. Raises: CliError.
    """
    document = ask(f"{base_url(args)}/v1/models/{quote(args.model, safe='')}/{page}")
    print(json.dumps(document) if args.output == "json" else "\n".join(lines(document)))
