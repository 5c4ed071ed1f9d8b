"""How operators' commands reach the gateway: the token, the address, the errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from driftgate.config import Config
from driftgate.errors import CliError, Exit
from serving.admin_client import AdminClient, AdminError, AdminUnreachableError


@contextmanager
def admin(config: Config) -> Iterator[AdminClient]:
    """A client of this state directory's gateway; its errors become a person's.

    Raises: CliError, with code UNREACHABLE when no gateway answers.
    """
    try:
        token = config.admin_token_path.read_text().strip()
    except FileNotFoundError as error:
        raise _unreachable(f"no gateway has run in {config.state_dir}") from error
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise _unreachable(f"{config.admin_token_path} cannot be read: {why}") from error
    try:
        yield AdminClient(config.admin_url, token)
    except AdminUnreachableError as error:
        raise _unreachable(str(error)) from error
    except AdminError as error:
        hint = f"the token is read from {config.admin_token_path}" if error.status == 401 else None
        told = "it is not known what the gateway did" if error.unknown else "the gateway refused"
        raise CliError(told, error.sentence, hint) from error


def _unreachable(cause: str) -> CliError:
    hint = "start one with `driftgate up`, or name the right --state-dir"
    return CliError("no gateway answers", cause, hint, Exit.UNREACHABLE)


def describe(deployment: dict[str, Any]) -> list[str]:
    """A deployment in a few lines for a person."""

    def name(key: str) -> str:
        version = deployment.get(key)
        return f"{version['version']} ({version['digest'][:12]})" if version else "-"

    lines = [
        f"{deployment['model']}  {deployment['phase'].lower()}  "
        f"generation {deployment['generation']}",
        f"  stable     {name('stable')}  {100 - deployment['weight']} %",
        f"  candidate  {name('candidate')}"
        + (f"  {deployment['weight']} %" if deployment.get("candidate") else ""),
        f"  previous   {name('previous')}",
    ]
    if deployment["frozen"]:
        lines.append("  automation is frozen")
    if deployment["quarantined"]:
        digests = ", ".join(digest[:12] for digest in deployment["quarantined"])
        lines.append(f"  quarantined  {digests}")
    return lines
