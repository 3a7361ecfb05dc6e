"""The report in a real browser: it replays, filters, answers to keys, fits, and says no error."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from igpo_lightning.reporting.html import write_report
from tests.reporting.browser import chromium, open_page
from tests.reporting.run_folder import STEPS, C, write_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_run(tmp_path_factory.mktemp("runs") / "one", []), 400)


def set_value(browser: Any, selector: str, value: object) -> None:
    browser.execute_script(
        "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event('input', {bubbles: true}))",
        selector,
        str(value),
    )


def text(browser: Any, selector: str) -> str:
    return str(browser.find_element("css selector", selector).text)


def count(browser: Any, selector: str) -> int:
    return len(browser.find_elements("css selector", selector))


def errors(browser: Any) -> list[Any]:
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_the_slider_replays_the_denoising(browser: Any, report: Path) -> None:
    """24 tokens, 3 a step over 8 steps; of the 22 before EOS, 0, 3, ..., 21 are 8 hints."""
    open_page(browser, report)
    browser.find_element("css selector", "#list button").click()
    assert count(browser, "#completion .token") == C
    assert count(browser, "#completion .masked") == 0
    set_value(browser, "#slider", 0)
    assert count(browser, "#completion .masked") == C
    set_value(browser, "#slider", 5)
    assert count(browser, "#completion .masked") == C - 15
    assert count(browser, "#completion .fresh") == 3
    assert text(browser, "#progress") == f"5 of {STEPS}: 15 of {C} tokens"
    browser.find_elements("css selector", "#list button")[3].click()
    assert count(browser, "#completion .hint") == 8
    set_value(browser, "#slider", 0)
    # Hints are there before the first step.
    assert count(browser, "#completion .masked") == C - 8
    assert "took the place of a wrong sample" in text(browser, "#verdict")
    assert not errors(browser)


def test_the_page_opens_on_a_hinted_sample_that_is_right(browser: Any, report: Path) -> None:
    open_page(browser, report)
    assert "sample 3" in text(browser, "#heading")
    assert count(browser, "#completion .hint") == 8
    assert text(browser, "#verdict").startswith("✓ right")


@pytest.mark.parametrize("width", [400, 1280])
def test_a_narrow_page_stacks_its_table(browser: Any, report: Path, width: int) -> None:
    """The accuracy after training comes first, and nothing of the table is cut off."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        open_page(browser, report)
        table = browser.find_element("css selector", "#numbers table")
        box = table.find_element("xpath", "..")
        cells = table.find_elements("css selector", "td")
        tops = {cell.location["y"] for cell in cells}
        wide = browser.execute_script("return arguments[0].scrollWidth", box)
        assert cells[0].get_attribute("data-name") == "accuracy after"
        assert wide <= box.size["width"]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert len(tops) == (5 if width == 400 else 1)


def test_samples_of_an_evaluation_replay_where_they_have_tokens(browser: Any, report: Path) -> None:
    open_page(browser, report)
    set_value(browser, "select[name=source]", "evaluation before")
    assert not browser.find_element("css selector", "#replay").is_displayed()
    assert text(browser, "#completion").startswith("a b c")
    set_value(browser, "select[name=source]", "evaluation after")
    assert browser.find_element("css selector", "#replay").is_displayed()
    set_value(browser, "#slider", 2)
    assert text(browser, "#progress") == f"2 of {STEPS}: 6 of {C} tokens"
    assert count(browser, "#completion .masked") == C - 6
    assert text(browser, "#prompt") == "<|user|>What is 0 + 1?<|assistant|>"
    assert text(browser, "#trace") == "0 + 1 = \\boxed{1}"
    assert not errors(browser)


def test_filters_leave_what_was_asked_for(browser: Any, report: Path) -> None:
    """16 training samples (a quarter hinted, half right) and 3 of each evaluation."""
    open_page(browser, report)
    assert count(browser, "#list li") == 22
    set_value(browser, "select[name=source]", "training")
    assert text(browser, "#count") == "16 of 22 samples"
    set_value(browser, "select[name=hinted]", "yes")
    assert count(browser, "#list li") == 4
    set_value(browser, "select[name=verdict]", "wrong")
    assert count(browser, "#list li") == 0
    assert not browser.find_element("css selector", "#sample").is_displayed()
    set_value(browser, "select[name=hinted]", "")
    assert count(browser, "#list li") == 4
    set_value(browser, "input[name=text]", "what is 1")
    assert count(browser, "#list li") == 2
    assert not errors(browser)


def test_keys_move_through_samples_and_steps(browser: Any, report: Path) -> None:
    open_page(browser, report)
    body = browser.find_element("css selector", "body")
    browser.find_element("css selector", "#list button").click()
    body.send_keys("j")
    assert "sample 1" in text(browser, "#heading")
    body.send_keys("k")
    assert "sample 0" in text(browser, "#heading")
    body.send_keys("\ue012")  # left arrow
    assert text(browser, "#progress").startswith(f"{STEPS - 1} of {STEPS}")
    body.send_keys("\ue014")  # right arrow
    assert text(browser, "#progress").startswith(f"{STEPS} of {STEPS}")
    body.send_keys(" ")
    assert text(browser, "#play") == "Pause"
    body.send_keys(" ")
    assert text(browser, "#play") == "Play"
    assert not errors(browser)


def test_text_of_a_sample_stays_text(browser: Any, report: Path) -> None:
    """The questions hold markup and an end of a script element."""
    open_page(browser, report)
    set_value(browser, "select[name=source]", "evaluation before")
    assert text(browser, "#prompt") == "What is 0 + 1? <b>&amp;</b></script>"
    assert count(browser, "#prompt b") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_width_fits_and_schemes_differ(
    browser: Any, report: Path, width: int, scheme: str
) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        open_page(browser, report)
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        page = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert wide <= width
    assert page == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]


def test_a_sweep_of_200_runs_opens_in_three_seconds(browser: Any, tmp_path: Path) -> None:
    for i in range(200):
        overrides = [f"optimizer.lr={i // 5}e-6", f"seed={i % 5}"]
        write_run(tmp_path / "sweep" / ",".join(overrides), overrides, seed=i % 5)
    report = write_report(tmp_path / "sweep", 400)
    seconds = open_page(browser, report)
    assert seconds < 3
    assert count(browser, "#runs tbody tr") == 200
    set_value(browser, "select[name=run]", "optimizer.lr=3e-6,seed=2")
    assert 0 < count(browser, "#list li") < 10
    assert not errors(browser)
