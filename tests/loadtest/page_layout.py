"""What a browser finds wrong with a page at a given width: cut, beyond the edge, overlapping.

The page itself runs no script: a frame around it measures. Without a Chromium there is no answer.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS_PX = (360, 390, 1280)
"""A narrow phone, a phone and a desktop."""
MEASURE = """<!doctype html><body style="margin:0"><iframe id="page" style="width:%dpx;height:900px;border:0"></iframe>
<script>
const frame = document.getElementById("page");
frame.onload = () => {
  const doc = frame.contentDocument, width = frame.clientWidth, found = [];
  const say = (kind, element) =>
    found.push(kind + ": <" + element.tagName.toLowerCase() + "> " + element.textContent.trim().slice(0, 60));
  if (doc.documentElement.scrollWidth > width) found.push("page is " + doc.documentElement.scrollWidth + " px wide");
  for (const element of doc.querySelectorAll("main *")) {
    if (element.closest("thead, details, .skip") || !element.getClientRects().length) continue;
    const box = element.getBoundingClientRect();
    if (box.right > width + 1 || box.left < -1) say("beyond the edge", element);
    const text = element.matches("td, th, p, li, dd, dt, h1, h2, figcaption");
    if (text && element.scrollWidth > element.clientWidth + 1) say("cut", element);
  }
  for (const drawing of doc.querySelectorAll("figure > svg")) {
    const texts = [...drawing.querySelectorAll("text")].map(text => [text, text.getBoundingClientRect()]);
    for (const [i, [text, a]] of texts.entries())
      for (const [other, b] of texts.slice(i + 1))
        if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
          found.push("overlap: " + text.textContent + " and " + other.textContent);
  }
  const out = document.createElement("pre"); out.id = "found"; out.textContent = JSON.stringify(found);
  document.body.append(out);
};
frame.src = "page.html";
</script>"""


def faults(html: str, width_px: int, folder: Path) -> list[str]:
    """Everything that is wrong with a page at this width; files go into an empty folder."""
    (folder / "page.html").write_text(html)
    (folder / "measure.html").write_text(MEASURE % width_px)
    dom = subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"),
            *(f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000", "--window-size=1400,1000"),
            *("--dump-dom", f"file://{folder / 'measure.html'}"),
        ],
        capture_output=True, text=True, check=True, timeout=100,
    ).stdout  # fmt: skip
    found = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    if found is None:
        return ["the page could not be measured"]
    said: list[str] = json.loads(unescape(found[1]))
    return said
