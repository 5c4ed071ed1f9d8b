"""Labels to a gateway over HTTP: sent again when it is busy, told apart when it refuses some.

Law: a label that was sent twice counts once; the monitor counts the second as a duplicate.
So whatever is in doubt is sent again.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from ssl import SSLCertVerificationError
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from driftgate.errors import CliError, Exit, sentence_of
from driftgate.labelling.label_file import Entry
from eventlog.kafka.label_gateway import own_certificate

TIMEOUT_S = 60.0
TRIES, PAUSE_S = 30, 1.0  # a gateway that is replaced is back by then
REFUSED_MAX = 1_000  # of a file: that many are no accident, and each costs some requests
BUSY = (429, 503)

Placed = Sequence[tuple[int, Entry]]


class TooManyRefused(Exception):
    """It makes no sense to go on."""


@dataclass(slots=True)
class Sender:
    """Mutable.

    refused:          places of rows and what the gateway said of them.
    certificate_file: of the gateway, where it is this machine's and speaks TLS; empty: what
                      Python trusts is trusted.
    """

    url: str
    model: str
    certificate_file: str = ""
    taken: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)

    def send(self, entries: Placed) -> None:
        """Raises: CliError when no gateway answers, or it takes no labels of the model at all;
        TooManyRefused.
        """
        if not entries:
            return
        sentence = self._post([entry for _, entry in entries])
        if not sentence:
            self.taken += len(entries)
        elif len(entries) == 1:
            self.refused.append((entries[0][0], sentence))
            if len(self.refused) > REFUSED_MAX:
                raise TooManyRefused(f"the gateway refused {len(self.refused)} labels")
        else:  # all are taken or none, so the wrong ones are found by halves
            middle = len(entries) // 2
            self.send(entries[:middle])
            self.send(entries[middle:])

    def _post(self, entries: Sequence[Entry]) -> str:
        """What is wrong with the labels; empty: they were taken."""
        url = f"{self.url}/v2/models/{quote(self.model, safe='')}/labels"
        headers = {"Content-Type": "application/json"}
        request = Request(url, json.dumps(entries).encode(), headers)
        for attempt in range(1, TRIES + 1):
            try:
                context = own_certificate(self.certificate_file)
                with urlopen(request, timeout=TIMEOUT_S, context=context) as reply:
                    reply.read()
                return ""
            except HTTPError as error:
                with error:
                    sentence = sentence_of(error)
                if error.code == 400:
                    return sentence
                if error.code not in BUSY or attempt == TRIES:
                    raise CliError("the gateway takes no labels", sentence) from error
            except (OSError, HTTPException) as error:
                reason = getattr(error, "reason", error)
                if attempt == TRIES or isinstance(reason, SSLCertVerificationError):
                    cause = f"{url}: {reason}"
                    hint = "start one with `driftgate up`, or name its --url"
                    raise CliError("no gateway answers", cause, hint, Exit.UNREACHABLE) from error
            time.sleep(PAUSE_S)
        raise AssertionError("the last attempt returns or raises")
