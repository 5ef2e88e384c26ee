import re
from html.parser import HTMLParser

import planted
import pytest

from windtunnel.report import collect, render
from windtunnel.runs.forecast import write_forecasts
from windtunnel.runs.measured import gather

VOID = {"meta", "link", "br", "path", "use", "rect", "line", "circle", "polygon", "hr", "img",
        "input"}  # fmt: skip


class Page(HTMLParser):
    """Text, attributes and structure of an HTML page; faults of structure are collected."""

    def __init__(self, text):
        super().__init__()
        self.html, self.words, self.attributes, self.faults = text, [], [], []
        self._open = []
        self.feed(text)
        self.close()
        self.faults += [f"never closed: {tag}" for tag in self._open]

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"{self._open[-1:]} closed by {tag}")
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        if self._open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words).replace("\u00a0", " "))

    def section(self, name):
        """Text of `<section id=name>`."""
        found = re.search(rf'<section id="{name}">.*?</section>', self.html, re.DOTALL)
        return Page(found[0]).text


@pytest.fixture(scope="session")
def read():
    return Page


@pytest.fixture(scope="session")
def full(tmp_path_factory):
    """A finished study: forecast first, then the held-out size; one branch has diverged."""
    study = planted.make_study(tmp_path_factory.mktemp("full"))
    lost = next(p for p in study.plan.branches if p.segment.model.width == 48)
    planted.fill(study, skip=lambda p: p.held_out or p.id == lost.id)
    planted.diverge(study, lost, reached=lost.segment.fork_step + 3)
    study.store.segment(lost.id).note("checkpoint damaged & removed")
    assert write_forecasts(study.folder, study.store, study.plan, gather(study.store, study.plan))
    planted.fill(study, skip=lambda p: not p.held_out, seed=3)
    return study


@pytest.fixture(scope="session")
def inputs(full):
    return collect(full)


@pytest.fixture(scope="session")
def page(inputs):
    return Page(render(inputs))
