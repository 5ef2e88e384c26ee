"""The page in a real browser: sorting, the filter, the download, tooltips, and without script."""

import csv
import json

import pytest
from browser import Browser, chromium

from windtunnel.report import render
from windtunnel.report.formatting import run_tip

pytestmark = [
    pytest.mark.medium,
    pytest.mark.skipif(chromium() is None, reason="no Chromium; CHROMIUM names one elsewhere"),
]

ROWS = "[...document.querySelector('table.runs').tBodies[0].rows].filter(row => !row.hidden)"
HEADS = "[...document.querySelectorAll('table.runs th[data-name]')]"


@pytest.fixture(scope="module")
def file(inputs, tmp_path_factory):
    path = tmp_path_factory.mktemp("browser") / "report.html"
    path.write_text(render(inputs), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture
def tab(browser, file):
    return browser.page(file)


def head(name):
    return f"document.querySelector('table.runs th[data-name={json.dumps(name)}]')"


def column(tab, name):
    """Texts of one column, as they stand."""
    return tab.value(f"{ROWS}.map(row => row.cells[{head(name)}.cellIndex].textContent)")


def test_every_column_sorts_both_ways_and_what_is_missing_stays_last(tab, inputs):
    names = tab.value(f"{HEADS}.map(head => head.dataset.name)")
    before = tab.value(f"{ROWS}.length")
    for name in names:
        for order in ("ascending", "descending"):
            tab.click(f"{head(name)}.querySelector('button')")
            sorted_by = f"{HEADS}.filter(h => h.ariaSort).map(h => [h.dataset.name, h.ariaSort])"
            assert tab.value(sorted_by) == [[name, order]]
    assert tab.value(f"{ROWS}.length") == before == len(inputs.runs)
    losses = sorted((run.loss for run in inputs.runs if run.loss is not None), reverse=True)
    for order in (-1, 1):
        tab.click(f"{head('loss')}.querySelector('button')")
        missing = ["–"] * (len(inputs.runs) - len(losses))
        assert missing
        assert column(tab, "loss") == [f"{loss:.4f}" for loss in losses[::order]] + missing
    tab.click(f"{head('size')}.querySelector('button')")
    widths = [int(text.strip().partition("×")[0]) for text in column(tab, "size")]
    assert widths == sorted(run.width for run in inputs.runs)


def test_the_filter_takes_every_word(tab, inputs):
    tab.click("document.querySelector('.tools input')")
    tab.type("48x2 branch")
    wanted = [run for run in inputs.runs if run.size == "48x2" and run.kind == "branch"]
    assert tab.value(f"{ROWS}.length") == len(wanted) > 0
    shown = tab.value("document.querySelector('.tools output').textContent")
    assert shown == f"{len(wanted)} of {len(inputs.runs)} runs"


def test_the_download_has_the_rows_that_are_shown_with_all_digits(browser, tab, inputs, tmp_path):
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path),
                 eventsEnabled=True)  # fmt: skip
    tab.click("document.querySelector('.tools input')")
    tab.type("branch")
    tab.click("document.querySelector('.download')")
    browser.wait_for("Browser.downloadProgress", state="completed")
    path = tmp_path / f"{inputs.study}-runs.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    found = {row["segment"]: row for row in rows}
    branches = [run for run in inputs.runs if run.kind == "branch"]
    assert len(rows) == len(found) == len(branches)
    for run in branches:
        row = found[run.segment]
        assert float(row["loss"] or "nan") == pytest.approx(run.loss or float("nan"), nan_ok=True)
        assert (int(row["tokens"]), int(row["init_seed"])) == (run.tokens, run.init_seed)
        assert float(row["lr"]) == run.lr


def test_a_point_has_a_tooltip_of_its_run(tab, inputs):
    run = next(run for run in inputs.laws[0].runs if run.held_out)
    mark = f"document.querySelector('figure .wide use[data-tip={json.dumps(run_tip(run))}]')"
    assert tab.value("document.getElementById('tip').hidden")
    tab.move_to(mark)
    assert not tab.value("document.getElementById('tip').hidden")
    seeds = [each for each in inputs.runs if (each.size, each.tokens) == (run.size, run.tokens)]
    tips = {run_tip(each) for each in seeds}  # their points may lie on each other
    assert tab.value("document.getElementById('tip').textContent") in tips
    box = tab.value("(b => [b.left, b.right, b.top])(document.getElementById('tip')"
                    ".getBoundingClientRect())")  # fmt: skip
    assert box[0] >= 0
    assert box[1] <= 1280
    assert box[2] >= 0


def test_the_loss_is_in_sight_at_1280(tab):
    inside = (
        f"(({head('loss')}).getBoundingClientRect().right <= "
        "document.querySelector('table.runs').parentNode.getBoundingClientRect().right)"
    )
    assert tab.value(inside)
    assert tab.value("document.documentElement.scrollWidth") == 1280


def test_a_link_to_a_folded_section_opens_it(tab):
    assert not tab.value("document.getElementById('appendix').open")
    tab.value("location.hash = '#again'")
    opened = "new Promise(done => setTimeout(() => done(document.getElementById('appendix').open)))"
    assert tab.value(opened)


def test_a_phone_sees_the_whole_width(browser, file):
    tab = browser.page(file, width=390)
    assert tab.value("document.documentElement.scrollWidth") == 390


def test_the_page_works_without_script(browser, file, inputs):
    tab = browser.page(file, scripts=False)
    assert tab.value(f"{ROWS}.length") == len(inputs.runs)
    assert tab.value("getComputedStyle(document.querySelector('.tools')).display") == "none"
    assert tab.value("document.querySelectorAll('use > title').length") > len(inputs.laws[0].runs)
    assert not tab.value("document.querySelector('#tip')")
    tab.click("document.querySelector('#appendix > summary')")
    assert tab.value("document.getElementById('appendix').open")
