"""The pages in a headless Chromium: no error, every chart drawn, and the slider moves heat map and cell."""

import html
import json
import re
import shutil
import subprocess

import made_up_runs
import pytest

from jdarts.report.html.pages import report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("there is no Chromium here (Debian: apt-get install chromium)", allow_module_level=True)
pytest.importorskip("vl_convert", reason="pip install 'jdarts[report]'")

#: Waits until the charts are drawn, moves what moves, and writes what it sees into the page.
PROBE = """<script>(async () => {
  const errors = [];
  addEventListener("error", (event) => errors.push(event.message));
  addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
  const pause = (time) => new Promise((done) => setTimeout(done, time));
  for (let tries = 0; tries < 100; tries++) {
    await pause(100);
    if ([...document.querySelectorAll(".plot")].every((each) => each.querySelector("svg"))) break;
  }
  await pause(300);
  const slider = document.getElementById("epoch");
  const seen = () => ({
    epoch: document.getElementById("epoch-name").textContent,
    drawing: document.getElementById("drawing-normal").innerHTML,
    heat: document.getElementById("heat-normal").querySelector(".mark-rect").innerHTML,
  });
  for (const each of document.images) each.loading = "eager";
  await pause(100);
  const found = {
    errors,
    empty: [...document.querySelectorAll(".plot")].filter((each) => !each.querySelector("svg path[d]")).map((each) => each.id),
    width: document.documentElement.scrollWidth, screen: innerWidth,
    pictures: [...document.querySelectorAll("figure img")].map((each) => each.naturalWidth > 0),
  };
  if (slider) {
    found.last = seen();
    slider.value = 0;
    slider.dispatchEvent(new Event("input"));
    await pause(300);
    found.first = seen();
  }
  const header = [...document.querySelectorAll("th[data-sort]")].find((each) => each.textContent === "score");
  if (header) {
    const column = () => [...header.closest("table").tBodies[0].rows].map((row) => row.cells[header.cellIndex].textContent);
    header.click();
    found.up = column();
    header.click();
    found.down = column();
  }
  parent.postMessage(JSON.stringify(found), "*");
})();</script></body>"""

#: Shows a page in a frame, since a window of Chromium is no narrower than 500 pixels, and keeps what its probe says.
FRAME = """<!DOCTYPE html><iframe src="probed.html" style="width: {width}px; height: 900px; border: 0"></iframe>
<script>addEventListener("message", (event) => {{
  const place = document.createElement("pre");
  place.id = "probe";
  place.textContent = event.data;
  document.body.append(place);
}});</script>"""


def opened(page, tmp_path, *, width=1280):
    """What the probe sees in a page of a width, and the errors that the browser prints."""
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width))
    (tmp_path / "probed.html").write_text(PROBE.join(page.read_text().rsplit("</body>", 1)))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000", "--virtual-time-budget=20000"]
    ended = subprocess.run([*command, "--dump-dom", frame.as_uri()], capture_output=True, text=True, timeout=120)
    match = re.search(r'<pre id="probe">(.*?)</pre>', ended.stdout, re.DOTALL)
    assert match is not None, ended.stderr[-2000:]
    return json.loads(html.unescape(match[1])), [line for line in ended.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return report([made_up_runs.search(tmp_path_factory.mktemp("run") / "run", dataset=made_up_runs.EVIL)])


def test_a_page_draws_every_chart_and_its_slider_moves_both(page, tmp_path):
    found, errors = opened(page, tmp_path)
    assert not errors and not found["errors"]
    assert found["empty"] == []
    assert (found["last"]["epoch"], found["first"]["epoch"]) == ("epoch 3", "epoch 1")
    for name in ("drawing", "heat"):
        assert found["last"][name] != found["first"][name]


def test_a_page_fits_a_phone(page, tmp_path):
    found, _ = opened(page, tmp_path, width=390)
    assert found["screen"] == 390 and found["width"] <= 390


def test_the_mistakes_of_a_training_are_drawn_and_fit_a_phone(tmp_path):
    folder = made_up_runs.mistakes(made_up_runs.training(tmp_path / "run"))
    found, errors = opened(report([folder]), tmp_path, width=390)
    assert not errors and not found["errors"] and found["empty"] == []
    assert found["width"] <= 390 and found["pictures"] == [True] * 3


def test_a_comparison_draws_every_chart_and_its_table_sorts(tmp_path):
    runs = [made_up_runs.search(tmp_path / f"runs/seed{seed}", seed=seed) for seed in (1, 2, 0)]
    found, errors = opened(report(runs, tmp_path / "comparison.html"), tmp_path)
    assert not errors and not found["errors"] and found["empty"] == []
    assert found["up"] == ["88.00 %", "89.00 %", "90.00 %"]
    assert found["down"] == found["up"][::-1]
