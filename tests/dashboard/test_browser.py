"""The pages in a real browser: what a person sees, and what a script from a job would have to get past."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from orchestrator.dashboard.pages import Pages
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.rehearsal.serving import executable
from orchestrator.store.protocol import StoreError
from tests.cli.stored_jobs import beat, change, finish, log, put_pending, put_training, tell
from tests.dashboard.conftest import CountedStore, Served, serving
from tests.dashboard.test_job_page import report
from tests.support.engines import BROWSERS, BROWSERS_DRIVER
from tests.support.waiting import wait_until

HOSTILE = "<script>document.title = 'hacked'</script><img src=x onerror=\"document.title = 'hacked'\">"
OUTSIDE = """
    const isOutside = (element) => element.checkVisibility() && element.getBoundingClientRect().right > innerWidth + 1;
    const scrolls = (element) => element.matches(".scroll") && element.scrollWidth > element.clientWidth;
    const all = [...document.querySelectorAll("main *")].filter((each) => !each.closest(".clip, pre"));
    return all.filter((each) => isOutside(each) || scrolls(each)).map((each) => each.outerHTML);
"""

pytestmark = pytest.mark.requires("chromium")


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = next(found for name in BROWSERS if (found := executable(name)))
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable(BROWSERS_DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome) -> webdriver.Chrome:
    """The browser, with an empty page of usual width, and nothing in its console."""
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.get("about:blank")
    complaints(chromium)
    return chromium


@pytest.fixture
def live(bucket: CountedStore) -> Iterator[Served]:
    """A dashboard by the real clock."""
    with serving(Pages(bucket, lambda: datetime.now(UTC), time.monotonic)) as served:
        yield served


def words(browser: webdriver.Chrome, selector: str = "main") -> str:
    return browser.find_element(By.CSS_SELECTOR, selector).text


def wait_for(browser: webdriver.Chrome, expected: str, place: str = "main") -> None:
    wait_until(lambda: expected in words(browser, place), f"'{expected}' is shown")


def complaints(browser: webdriver.Chrome) -> list[str]:
    """What has come into its console since this was asked last."""
    return [entry["message"] for entry in browser.execute("getLog", {"type": "browser"})["value"]]


def test_the_overview_shows_a_job_that_runs_and_follows_it_without_a_reload(
    browser: webdriver.Chrome, live: Served, bucket: CountedStore
) -> None:
    put_training(bucket)
    browser.get(live.url)
    wait_for(browser, "running · training")
    assert "59 %" in words(browser)
    assert browser.title == "(1) elastic"
    browser.execute_script("document.querySelector('#jobs a').focus(); window.same = document.activeElement")

    beat(bucket, "digits", number=2, step=700)
    put_pending(bucket, "another")
    wait_until(lambda: "100 %" in words(browser) and "another" in words(browser), "what is new is shown")
    assert browser.execute_script("return window.same === document.activeElement && document.activeElement.isConnected")

    finish(bucket, "digits", JobPhase.SUCCEEDED, "finished at step 700")
    wait_for(browser, "succeeded")
    browser.find_element(By.LINK_TEXT, "digits").click()
    wait_until(lambda: browser.title.startswith("digits "), "its page is shown")
    assert complaints(browser) == []


def test_the_page_of_a_job_has_its_curves_events_and_log(
    browser: webdriver.Chrome, live: Served, bucket: CountedStore
) -> None:
    put_training(bucket)
    report(bucket, 0, *range(1, 60), loss=0.5, student_accuracy=0.8, teacher_accuracy=0.9, samples_per_second=100.0)
    tell(bucket, "digits", EventKind.SCALE_UP, "utilisation 96 % is above 80 %")
    log(bucket, "digits", 1, 0, b"step 1\nstep 2\n")
    browser.get(f"{live.url}/jobs/digits")
    wait_for(browser, "step 2", "#log")

    spoken = [each.get_attribute("aria-label") for each in browser.find_elements(By.CSS_SELECTOR, "svg[role=img]")]
    assert spoken[:3] == [
        "Workers: workers from 1 to 1",
        "Accuracy: student from 80 % to 80 %, teacher from 90 % to 90 %",
        "Loss: total from 0.5 to 0.5",
    ]
    assert len(browser.find_elements(By.CSS_SELECTOR, "line.mark")) == 5
    assert "utilisation 96 % is above 80 %" in words(browser, "#events")
    assert "elastic logs digits -f" in words(browser, "#commands")
    assert complaints(browser) == []


def test_what_a_job_says_runs_no_script(browser: webdriver.Chrome, live: Served, bucket: CountedStore) -> None:
    put_training(bucket)
    change(bucket, "digits", reason=HOSTILE)
    tell(bucket, "digits", EventKind.NOTE, HOSTILE)
    log(bucket, "digits", 1, 0, f"{HOSTILE}\n".encode())
    for path, place in (("/", "#jobs"), ("/jobs/digits", "#log")):
        browser.get(live.url + path)
        wait_for(browser, HOSTILE, place)
        assert "elastic" in browser.title
    assert complaints(browser) == []


def test_a_script_that_got_into_the_page_would_not_run_and_would_be_told(
    browser: webdriver.Chrome, live: Served, bucket: CountedStore
) -> None:
    browser.get(live.url)
    wait_for(browser, "No jobs yet")
    browser.execute_script(
        "const script = document.createElement('script'); script.textContent = 'document.title = `hacked`';"
        "document.body.append(script);"
    )

    wait_until(lambda: any("Content Security Policy" in each for each in complaints(browser)), "it is told")
    assert browser.title != "hacked"


def test_a_store_that_is_away_is_told_and_what_was_read_stays(
    browser: webdriver.Chrome, live: Served, bucket: CountedStore
) -> None:
    put_training(bucket)
    browser.get(live.url)
    wait_for(browser, "digits")
    bucket.error = StoreError("The bucket is away: look for it.")
    wait_for(browser, "The bucket is away", "#trouble")
    assert "Shown is what was read at" in words(browser, "#trouble")
    assert "digits" in words(browser)

    bucket.error = None
    wait_until(lambda: words(browser, "#trouble") == "", "it is over")


@pytest.mark.parametrize("width", [360, 800])
def test_nothing_is_wider_than_the_screen(
    browser: webdriver.Chrome, live: Served, bucket: CountedStore, width: int
) -> None:
    name = "cifar-mean-teacher-with-a-name-as-long-as-it-may-be-0123456789a"
    put_training(bucket, name)
    tell(bucket, name, EventKind.NOTE, "word" * 100)
    log(bucket, name, 1, 0, b"x" * 400)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for path, place in (("/", "#jobs"), (f"/jobs/{name}", "#events")):
        browser.get(live.url + path)
        wait_for(browser, "word", place)
        assert browser.execute_script("return document.documentElement.scrollWidth") == width
        assert browser.execute_script(OUTSIDE) == []
