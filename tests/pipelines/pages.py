"""Reading the report's pages: as markup, as tables, and in a browser."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

from concord.pipelines.report_style import VOID

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    "--enable-logging=stderr",
)


def in_browser(url, folder):
    """Load a page in Chromium, which must have nothing to say of it; gives the page as it is then.

    The profile is kept in `folder`.
    """
    command = [CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    return done.stdout


class Balance(HTMLParser):
    """Collects the elements of a page and insists that each is closed where it should be."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(page):
    reader = Balance()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        assert ET.fromstring(svg).get("aria-label")
    return reader.seen


def table_of(page):
    """The table of results as text: headings, then the cells of each line."""
    table = page.partition('<table class="results">')[2].partition("</table>")[0]
    table = re.sub(r"<svg.*?</svg>", "", table, flags=re.DOTALL)
    cells = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in table.split("<tr>")[1:]]
    return [[re.sub(r"<.*?>", "  ", cell).strip() for cell in row] for row in cells]


def parts(cell):
    return [part for part in re.split(" {2,}", cell) if part]
