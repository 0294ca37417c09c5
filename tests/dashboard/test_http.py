"""The server as a browser, or somebody else, meets it on loopback."""

import re
from importlib.resources import files

import pytest

from orchestrator.dashboard.pages import Pages
from orchestrator.jobs import layout
from orchestrator.jobs.events import EventKind
from orchestrator.store.protocol import StoreError
from tests.cli.stored_jobs import beat, log, put_training, tell
from tests.dashboard.conftest import Clock, CountedStore, Served
from tests.support.waiting import wait_until

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
STATIC = files("orchestrator.dashboard") / "static"
PATHS = ("/", "/jobs/digits", "/data/overview", "/data/jobs/digits", "/static/dashboard.mjs", "/static/dashboard.css")


@pytest.fixture(autouse=True)
def a_job(bucket: CountedStore) -> None:
    put_training(bucket)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/jobs/digits", "text/html"),
        ("/data/overview", "application/json"),
        ("/data/jobs/digits", "application/json"),
        ("/static/dashboard.mjs", "text/javascript"),
        ("/static/charts.mjs", "text/javascript"),
        ("/static/dashboard.css", "text/css"),
        ("/static/icon.svg", "image/svg+xml"),
    ],
)
def test_each_address_answers_with_what_it_is(served: Served, path: str, kind: str) -> None:
    answer = served.ask(path)

    assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, kind)
    assert int(answer.headers["content-length"]) == len(answer.body.encode())


def test_the_overview_and_the_job_are_there_as_data(served: Served) -> None:
    overview, job = served.ask("/data/overview").json(), served.ask("/data/jobs/digits").json()

    assert (overview["trouble"], [row["name"] for row in overview["page"]["jobs"]]) == ("", ["digits"])
    assert job["page"]["job"] == overview["page"]["jobs"][0]


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/jobs/digits/", "/data/jobs/unknown", "/static/none.css"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_answer_leaves_without_its_headers(served: Served, path: str, method: str) -> None:
    headers = served.ask(path, method).headers

    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in headers if name.startswith("access-control-")]
    assert "server" not in headers


@pytest.mark.parametrize("path", PATHS)
def test_what_a_browser_has_is_not_sent_again(served: Served, path: str) -> None:
    first = served.ask(path)
    again = served.ask(path, If_None_Match=first.headers["etag"])
    other = served.ask(path, If_None_Match='"another"')

    assert (again.status, again.body) == (304, "")
    assert again.headers["etag"] == first.headers["etag"]
    assert (other.status, other.body) == (200, first.body)


def test_what_has_changed_is_sent_and_its_age_is_told(served: Served, bucket: CountedStore, clock: Clock) -> None:
    first = served.ask("/data/overview")
    beat(bucket, "digits", number=2, step=500)
    clock.passes(0.9)
    assert served.ask("/data/overview", If_None_Match=first.headers["etag"]).status == 304  # read a moment ago
    clock.passes(2)
    changed = served.ask("/data/overview", If_None_Match=first.headers["etag"])

    assert (changed.status, changed.headers["age"]) == (200, "0")
    assert changed.json()["page"]["jobs"][0]["steps"] == "500 of 700"
    assert changed.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_nothing_can_be_changed(served: Served, method: str) -> None:
    answer = served.ask("/data/overview", method)

    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_head_is_a_get_without_its_body(served: Served) -> None:
    got, head = served.ask("/"), served.ask("/", "HEAD")

    assert (head.status, head.body) == (200, "")
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "LOCALHOST:{port}"])
def test_this_machine_is_answered_under_its_own_names(served: Served, host: str) -> None:
    assert served.ask("/data/overview", Host=host.format(port=served.port)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",
        "evil.example",
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost.evil.example:{port}",
        "127.0.0.1:{port}.evil.example",
        "127.0.0.1:{port}@evil.example",
        "0.0.0.0:{port}",
        "",
    ],
)
def test_a_name_that_is_made_to_lead_here_is_refused(served: Served, bucket: CountedStore, host: str) -> None:
    bucket.asked.clear()
    for path in PATHS:
        answer = served.ask(path, Host=host.format(port=served.port))
        assert answer.status == 421
        assert "elastic dashboard" in answer.body
    assert not bucket.asked


@pytest.mark.parametrize(
    "request_lines",
    [
        b"GET /data/overview HTTP/1.0\r\n\r\n",
        b"GET /data/overview HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"GET http://evil.example/data/overview HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ],
)
def test_no_host_or_two_are_refused(served: Served, request_lines: bytes) -> None:
    answer = served.ask_raw(request_lines.replace(b"%d", b"%d" % served.port))

    assert re.match(rb"HTTP/1\.1 4\d\d ", answer)
    assert b"digits" not in answer


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_cannot_have_a_browser_ask(served: Served, bucket: CountedStore, site: str) -> None:
    bucket.asked.clear()
    for path in ("/data/overview", "/data/jobs/digits"):
        assert served.ask(path, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors").status == 403
        assert served.ask(path, Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate").status == 403
    assert not bucket.asked
    assert served.ask("/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate").status == 200  # a link may lead here
    assert served.ask("/data/overview", Sec_Fetch_Site="same-origin").status == 200


def test_a_job_that_there_is_not_is_404_and_says_what_to_do(served: Served) -> None:
    answer = served.ask("/data/jobs/digit")

    assert answer.status == 404
    assert "did you mean 'digits'?" in answer.body


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../control",
        "%2e%2e",
        "..%2fcontrol",
        "Digits",
        "-digits",
        "a" * 64,
        "digits%00",
        "digits%0a",
        "dig%20its",
    ],
)
def test_what_is_no_name_of_a_job_reaches_no_store(served: Served, bucket: CountedStore, name: str) -> None:
    bucket.asked.clear()
    for path in (f"/jobs/{name}", f"/data/jobs/{name}", f"/static/{name}"):
        assert served.ask(path).status == 404
    assert not bucket.asked


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd"]
)
def test_no_other_file_is_served(served: Served, path: str) -> None:
    assert served.ask(path).status == 404


def test_what_a_job_says_is_data_and_never_markup(served: Served, bucket: CountedStore, clock: Clock) -> None:
    tell(bucket, "digits", EventKind.NOTE, HOSTILE)
    log(bucket, "digits", 1, 0, HOSTILE.encode())
    clock.passes(3)

    job = served.ask("/data/jobs/digits")

    assert job.headers["content-type"] == "application/json"
    assert job.json()["page"]["events"][0]["message"] == HOSTILE
    assert job.json()["page"]["log"]["lines"] == [HOSTILE]
    assert HOSTILE not in served.ask("/jobs/digits").body


@pytest.mark.parametrize(
    "name", ["overview.html", "job.html", "dashboard.mjs", "charts.mjs", "dashboard.css", "icon.svg"]
)
def test_nothing_leads_out_of_the_page_and_no_text_becomes_markup(name: str) -> None:
    body = (files("orchestrator.dashboard") / "static" / name).read_text()

    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", body))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", body)
    assert not re.search(r"\sstyle=|\son\w+=", body)


def test_a_store_that_is_away_is_told_beside_what_was_read(served: Served, bucket: CountedStore, clock: Clock) -> None:
    bucket.error = StoreError("The bucket is away: look for it.")
    never = served.ask("/data/overview")
    assert (never.status, never.json()) == (200, {"trouble": "The bucket is away: look for it.", "page": None})
    assert "age" not in never.headers
    bucket.error = None
    clock.passes(3)
    served.ask("/data/overview")

    bucket.error = StoreError("The bucket is away: look for it.")
    clock.passes(7)
    answer = served.ask("/data/overview")

    assert answer.json()["trouble"] == "The bucket is away: look for it."
    assert [row["name"] for row in answer.json()["page"]["jobs"]] == ["digits"]
    assert answer.headers["age"] == "7"


def test_a_record_that_cannot_be_read_is_told_on_the_jobs_page(
    served: Served, bucket: CountedStore, clock: Clock
) -> None:
    bucket.put(layout.record_key("digits"), b"{}")
    clock.passes(3)

    answer = served.ask("/data/jobs/digits").json()

    assert answer["page"] is None
    assert layout.record_key("digits") in answer["trouble"]


def test_a_fault_of_ours_ends_no_other_answer_and_shows_no_traceback(
    served: Served, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(patience_s: float) -> None:
        raise ZeroDivisionError("by zero")

    with monkeypatch.context() as patch:
        patch.setattr(pages, "overview", breaks)
        answer = served.ask("/data/overview")
    assert (answer.status, "Traceback" in answer.body, "by zero" in answer.body) == (500, False, False)
    assert answer.headers["x-content-type-options"] == "nosniff"
    wait_until(lambda: served.faults, "the fault is reported")  # the answer goes out before it is
    assert [str(fault) for fault in served.faults] == ["by zero"]
    assert served.ask("/data/overview").status == 200


def test_a_request_that_is_too_long_is_refused(served: Served) -> None:
    answer = served.ask_raw(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 100_000)

    assert answer.startswith(b"HTTP/1.1 400 ")
