"""The triggers over HTTP: a template that is filled, or a signed CloudEvent."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlencode

from monitor.triggers.core.egress import parse_target
from monitor.triggers.core.presets import HttpTemplate
from monitor.triggers.core.request import Request, cloud_event, template_values
from monitor.triggers.core.retry import Attempt, Fate, Statuses, retry_after_s
from monitor.triggers.core.signature import signature
from monitor.triggers.core.template import TemplateError, fill, fill_text, fill_url, placeholders
from monitor.triggers.credentials import MASK, NoCredential, TokenSource, read_secrets
from monitor.triggers.http_client import (
    Egress,
    HttpAnswer,
    HttpRequest,
    NotAllowed,
    Unreachable,
    resolve,
    send,
)

TOKEN = "token"  # noqa: S105 - the name of a placeholder
# Proxies and servers commonly take 1 MiB; the request itself is bounded far below it.
BODY_BYTES_MAX = 512 * 1024
ANSWER_SHOWN = 500
_UNFIT_IN_HEADER = re.compile(r"[^ -~]")
WEBHOOK_STATUSES = Statuses(done=range(200, 300), duplicate=(409,))
EVENT_CONTENT = "application/cloudevents+json"


class Composer(Protocol):
    """Makes the HTTP request of a request for a training."""

    @property
    def statuses(self) -> Statuses: ...
    @property
    def url(self) -> str: ...
    def credentials(self) -> None:
        """Raises: NoCredential where they cannot be had."""

    def compose(self, request: Request) -> tuple[HttpRequest, str]:
        """The request, and the token in it, which no record may hold.

        Raises: NoCredential, TemplateError.
        """

    def show(self, request: Request) -> HttpRequest:
        """As `compose`, with MASK for every secret. Raises: TemplateError."""


class HttpTrigger:
    """See `Trigger`."""

    repeatable = True

    def __init__(self, composer: Composer, egress: Egress, timeout_s: float) -> None:
        self._composer, self._egress, self._timeout_s = composer, egress, timeout_s

    def attempt(self, request: Request) -> Attempt:
        try:
            composed, token = self._composer.compose(request)
            if len(composed.body) > BODY_BYTES_MAX:
                size = f"{len(composed.body)} bytes, the limit is {BODY_BYTES_MAX}"
                return Attempt(Fate.FAILED, f"the request is too large: {size}")
            answer = send(composed, self._egress, self._timeout_s)
        except (NoCredential, Unreachable) as exc:
            return Attempt(Fate.RETRY, str(exc))
        except (NotAllowed, TemplateError) as exc:
            return Attempt(Fate.FAILED, str(exc))
        return _judged(answer, self._composer.statuses, token)

    def check(self) -> str:
        """Credentials, and where the name leads; nothing is connected to."""
        try:
            self._composer.credentials()
            resolve(parse_target(self._composer.url, plaintext=True), self._egress)
        except (NoCredential, NotAllowed, Unreachable) as exc:
            return str(exc)
        return ""

    def show(self, request: Request) -> str:
        shown = self._composer.show(request)
        headers = "\n".join(f"{name}: {value}" for name, value in shown.headers.items())
        try:
            body = json.dumps(json.loads(shown.body), indent=2)
        except ValueError:
            body = shown.body.decode()
        return f"{shown.method} {shown.url}\n{headers}\n\n{body}"

    def stop(self) -> None:
        """An attempt ends by itself; what it asked for is asked again, under the same id."""


def _judged(answer: HttpAnswer, statuses: Statuses, token: str) -> Attempt:
    fate = statuses.fate(answer.status)
    detail: dict[str, Any] = {
        "status": answer.status,
        "answer": _without(token, answer.body.decode("utf-8", "replace")),
    }
    if "location" in answer.headers and not 300 <= answer.status < 400:
        detail["location"] = _without(token, answer.headers["location"])
    if answer.status in statuses.duplicate:
        sentence = f"the training had been asked for before (status {answer.status})"
    elif fate is Fate.DONE:
        sentence = f"a training was asked for (status {answer.status})"
    elif 300 <= answer.status < 400:
        sentence = f"the answer leads elsewhere (status {answer.status}), which is not followed"
    else:
        sentence = f"the request was refused with status {answer.status}"
    return Attempt(fate, sentence, detail, retry_after_s(answer.headers.get("retry-after")))


def _without(token: str, text: str) -> str:
    """The beginning of what was answered, which may repeat what was sent."""
    if token:
        for secret in (token, base64.b64encode(token.encode()).decode()):
            text = text.replace(secret, MASK)
    return text[:ANSWER_SHOWN]


@dataclass(frozen=True, slots=True)
class Template:
    """A composer by a template. url: whole; parameters: what it names besides the request."""

    template: HttpTemplate
    url: str
    parameters: Mapping[str, str]
    tokens: TokenSource

    @property
    def statuses(self) -> Statuses:
        return self.template.statuses

    def credentials(self) -> None:
        if self.tokens.configured:
            self.tokens.token()

    def compose(self, request: Request) -> tuple[HttpRequest, str]:
        token = self.tokens.token() if self.tokens.configured else ""
        values = {**self._values(request), TOKEN: token}
        headers = {
            name: fill_text(value, values, _in_header) for name, value in self._headers().items()
        }
        return self._composed(request, headers), token

    def show(self, request: Request) -> HttpRequest:
        headers = {
            name: f"{value.partition('{')[0]}{MASK}"
            if _has_token(value)
            else fill_text(value, self._values(request), _in_header)
            for name, value in self._headers().items()
        }
        return self._composed(request, headers)

    def _headers(self) -> dict[str, str]:
        """Without a token there is no header that holds one."""
        kept = self.tokens.configured
        return {k: v for k, v in self.template.headers.items() if kept or not _has_token(v)}

    def _composed(self, request: Request, headers: Mapping[str, str]) -> HttpRequest:
        values = self._values(request)
        document = fill(self.template.body, values)
        content = "application/json"
        body = json.dumps(document).encode()
        if self.template.form:
            content, body = "application/x-www-form-urlencoded", urlencode(document).encode()
        own = {"Content-Type": content, "Idempotency-Key": request.id}
        return HttpRequest(
            self.template.method, fill_url(self.url, values), {**own, **headers}, body
        )

    def _values(self, request: Request) -> dict[str, Any]:
        of_request = template_values(request)
        # A parameter may itself name the model, so that each has a pipeline of its own.
        own = {name: fill_text(value, of_request) for name, value in self.parameters.items()}
        return {**own, **of_request}


def _in_header(value: str) -> str:
    """What a header can hold of it: a line end would begin another header."""
    return _UNFIT_IN_HEADER.sub("?", value)


def _has_token(header: str) -> bool:
    return any(name == TOKEN for name, _ in placeholders(header))


@dataclass(frozen=True, slots=True)
class Webhook:
    """A composer of CloudEvents that are signed as Standard Webhooks are."""

    url: str
    secret_file: str
    clock: Callable[[], int]  # Unix ns
    statuses: Statuses = WEBHOOK_STATUSES

    def credentials(self) -> None:
        read_secrets(self.secret_file)

    def compose(self, request: Request) -> tuple[HttpRequest, str]:
        secrets, now_s = read_secrets(self.secret_file), self.clock() // 10**9
        body = event_body(request, now_s)
        return self._signed(request, now_s, body, signature(secrets, request.id, now_s, body)), ""

    def show(self, request: Request) -> HttpRequest:
        now_s = self.clock() // 10**9
        return self._signed(request, now_s, event_body(request, now_s), f"v1,{MASK}")

    def _signed(self, request: Request, now_s: int, body: bytes, signed: str) -> HttpRequest:
        headers = {
            "Content-Type": EVENT_CONTENT,
            "webhook-id": request.id,
            "webhook-timestamp": str(now_s),
            "webhook-signature": signed,
        }
        return HttpRequest("POST", self.url, headers, body)


def event_body(request: Request, now_s: int) -> bytes:
    """The request as a CloudEvent in JSON."""
    time = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps(cloud_event(request, time)).encode()
