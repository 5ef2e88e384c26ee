"""The site: it builds strictly, in 5 to 10 s, and its pages load nothing from other hosts."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
OTHER_HOST = re.compile(r"(https?:)?//", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Broken links, missing anchors and pages outside the navigation fail the build."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


class Loads(HTMLParser):
    """What a page asks the browser to load."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name == LOADED.get(tag) and value]


def test_no_page_loads_from_another_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loaded = Loads(page.read_text()).found
        assert any("assets/stylesheets" in each for each in loaded), page
        assert [each for each in loaded if OTHER_HOST.match(each)] == [], page


def test_no_style_loads_from_another_host(site):
    styles = list(site.rglob("*.css"))
    assert styles
    for style in styles:
        text = style.read_text()
        assert re.findall(r"@import[^;]*//[^;]*;", text) == [], style
        assert [
            each
            for each in re.findall(r"url\((.*?)\)", text)
            if OTHER_HOST.match(each.strip("'\""))
        ] == []


def test_every_page_of_the_docs_is_on_the_site(site):
    for source in (ROOT / "docs").rglob("*.md"):
        name = "index.html" if source.name == "README.md" else f"{source.stem}.html"
        assert (site / source.relative_to(ROOT).parent / name).exists(), source


def test_the_reference_has_every_public_class_and_function_of_the_laws(site):
    page = (site / "docs" / "api.html").read_text()
    ids = set(re.findall(r'id="windtunnel\.laws\.(\w+)"', page))
    public = re.search(
        r"__all__ = \[(.*?)\]", (ROOT / "windtunnel/laws/__init__.py").read_text(), re.DOTALL
    )
    names = {name for name in re.findall(r'"(\w+)"', public[1]) if not name.isupper()}
    assert names - ids == set()
