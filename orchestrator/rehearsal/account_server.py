"""The process that plays AWS: moto's server, one request at a time, with what a rehearsal asks of it besides.

`python -m orchestrator.rehearsal.account_server` prints its URL when it is ready, and ends when its standard input is
closed, which the system does when whoever started it is gone.

moto checks a condition and acts on it without a lock, so two of its threads can both win: hence one at a time. Below
`/_rehearsal/` is what no client of AWS can ask for: see `Account`, which asks for it.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

from orchestrator.rehearsal.mended_moto import MendedAccount, error_document
from orchestrator.rehearsal.mended_rights import mend_rights
from orchestrator.rehearsal.mended_stacks import mend_stacks
from orchestrator.rehearsal.price_list import get_products
from orchestrator.rehearsal.prices import Prices
from orchestrator.rehearsal.refusals import THROTTLED, Shortages

CONTROL = "/_rehearsal/"
THROTTLED_SHARE = 0.5
"""Drawn for each request: a pattern could keep one kind of request away for ever."""


class Application:
    """moto's WSGI application behind a lock, faults and controls."""

    def __init__(self, moto: Callable[..., Iterable[bytes]], account: MendedAccount, draws: Random) -> None:
        self._moto, self._account = moto, account
        self._one_at_a_time = threading.RLock()
        self._draws = draws

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        with self._one_at_a_time:
            path = environ.get("PATH_INFO", "")
            if path.startswith(CONTROL):
                return self._control(path.removeprefix(CONTROL), environ, start_response)
            signed = environ.get("HTTP_AUTHORIZATION", "")
            if "/pricing/aws4_request" in signed:
                products = get_products(self._account.prices, _asked(environ).get("Filters", []))
                return _answer(start_response, "200 OK", json.dumps(products).encode())
            if "/ec2/aws4_request" in signed and self._is_one_too_many():
                refusal = error_document(THROTTLED).encode()
                return _answer(start_response, "503 Service Unavailable", refusal, "text/xml")
            return self._moto(environ, start_response)

    def _is_one_too_many(self) -> bool:
        return self._account.shortages.throttled and self._draws.random() < THROTTLED_SHARE

    def _control(self, action: str, environ: Mapping[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        account, asked = self._account, _asked(environ)
        answer: Any = {}
        match action:
            case "ledger":
                answer = account.ledger()
            case "shortages":
                account.shortages = Shortages(**asked)
            case "prices":
                account.prices = Prices(**asked)
            case "booted":
                account.booted(asked["id"])
            case "shut-down":
                account.shut_down_from_within(asked["id"])
            case "take-back":
                account.take_back(asked["id"])
            case "ended":
                account.ended(asked["id"])
            case _:
                return _answer(start_response, "404 Not Found", b"")
        return _answer(start_response, "200 OK", json.dumps(answer).encode())


def _asked(environ: Mapping[str, Any]) -> Any:
    """A request's body."""
    return json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}")


def _answer(
    start_response: Callable[..., object], status: str, body: bytes, content_type: str = "application/json"
) -> list[bytes]:
    start_response(status, [("Content-Length", str(len(body))), ("Content-Type", content_type)])
    return [body]


def main() -> None:
    """Serve until whoever started this has gone."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        protocol_version = "HTTP/1.1"  # keeps connections, as AWS does

        def log(self, type: str, message: str, *arguments: Any) -> None:
            """Nothing."""

    account = MendedAccount()
    account.install()
    mend_stacks()
    mend_rights()
    application = Application(DomainDispatcherApplication(create_backend_app), account, Random(0))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
