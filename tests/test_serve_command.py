"""`backlit serve` as a process: how it begins, how it is stopped, and its page in a browser."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
from backlit.runtime import Session
from backlit.runtime.boxes.recipes import RECIPES
from backlit.runtime.cli import main
from backlit.runtime.images.load import Encoded
from backlit.runtime.serving import opening
from backlit.runtime.serving.settings import Settings
from click.testing import CliRunner
from support import browser
from support.service import export_embedded, served
from support.waiting import until

from backlit import models

PHOTO = sorted(models.samples().glob("*.jpg"))[7].read_bytes()
SLOW = """
import sys, time
from backlit.runtime.backend.runner import Runner
run = Runner.run
def slow(self, *arguments):
    time.sleep(0.4)
    return run(self, *arguments)
Runner.run = slow
from backlit.runtime.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_embedded(tmp_path_factory.mktemp("serve") / "tiny.backlit.onnx")


@contextmanager
def process(
    file: Path, log: Path, *options: str, slow: bool = False
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    code = ["-c", SLOW] if slow else ["-m", "backlit.runtime"]
    words = [sys.executable, *code, "serve", str(file), "--port", "0", *options]
    with log.open("w") as err:
        started = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=err, text=True)
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        assert line, log.read_text()
        yield started, int(json.loads(line)["url"].rsplit(":", 1)[1])
    finally:
        started.kill()
        started.communicate()


def post(port: int) -> int | str:
    """The status, or the error's name."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/localize", PHOTO)
        response = connection.getresponse()
        assert json.loads(response.read())["results"][0]["class"] == 7
        return response.status
    except (OSError, HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def many(port: int, count: int) -> tuple[list[threading.Thread], list[int | str]]:
    found: list[int | str] = []
    threads = [threading.Thread(target=lambda: found.append(post(port))) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, found


def taken(port: int, least: int) -> None:
    """Wait until so many requests are taken."""

    def so_many() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        (queue,) = (line.split()[1] for line in lines if line.startswith("backlit_queue "))
        return float(queue) >= least

    until(so_many, f"request {least}")


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_was_taken(
    file: Path, tmp_path: Path, signal_: signal.Signals
) -> None:
    log = tmp_path / "log"
    with process(file, log, "--batch", "1", "--threads", "1", slow=True) as (server, port):
        threads, found = many(port, 8)
        taken(port, 8)
        server.send_signal(signal_)
        for thread in threads:
            thread.join(60)
        assert found == [200] * 8
        assert server.wait(60) == 0
        assert post(port) == "ConnectionRefusedError"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["request"] * 8


def test_killed_in_the_middle_every_client_gets_an_error(file: Path, tmp_path: Path) -> None:
    with process(file, tmp_path / "log", "--batch", "1", slow=True) as (server, port):
        threads, found = many(port, 6)
        taken(port, 4)
        server.kill()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert len(found) == 6
        assert any(isinstance(one, str) for one in found)


def test_several_processes_answer_and_count_together(file: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with process(file, log, "--workers", "2") as (server, port):
        threads, found = many(port, 12)
        for thread in threads:
            thread.join(120)
        assert found == [200] * 12
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        assert 'backlit_requests_total{path="/localize",status="200"} 12.0' in text
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        assert post(port) == "ConnectionRefusedError"  # nobody is left
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum(line["event"] == "request" for line in lines) == 12
    assert "Traceback" not in log.read_text()


def test_processes_end_with_the_first_of_them(file: Path, tmp_path: Path) -> None:
    with process(file, tmp_path / "log", "--workers", "2") as (server, port):
        assert post(port) == 200
        server.kill()
        until(lambda: post(port) == "ConnectionRefusedError", "the end of the others")


def test_a_process_that_cannot_begin_ends_the_service(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with process(tmp_path / "absent.onnx", log, "--workers", "2") as (server, _):
        assert server.wait(120) == 1
    assert "absent.onnx does not exist" in log.read_text()
    assert "fix" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_what_cannot_be_served_is_said_before(file: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("# mine\nshort\n")
    with served(file) as service:
        for options, status, said in (
            (["--port", str(service.port)], 2, "cannot be listened on"),
            (["--host", "203.0.113.1", "--port", "0"], 2, "cannot be listened on"),
            (["--host", "no such host", "--port", "0"], 2, "cannot be listened on"),
            (["--port", "0", "--providers", "cpu", "--device", "0"], 2, "--device is for cuda"),
            (["--port", "0", "--device", "first"], 2, "no list of GPUs"),
            (["--port", "0", "--device", "0,0"], 2, "no list of GPUs"),
            (["--port", "0", "--api-keys", str(short)], 2, "key 1 of"),
            (["--port", "0", "--api-keys", str(tmp_path)], 2, "cannot be read"),
            (["--port", "0", "--recipe", "none"], 2, "no recipe"),
            (["--port", "0", "--map", "gradcam"], 2, "gradcam"),
            (["--port", "0", "--provider-option", "x"], 2, "no provider option"),
        ):
            done = CliRunner().invoke(main, ["serve", str(file), *options])
            assert done.exit_code == status, (options, done.output)
            assert said in done.stderr
            assert "fix:" in done.stderr


def test_without_its_extra_it_says_which(file: Path) -> None:
    for missing in ("starlette", "uvicorn", "prometheus_client"):
        code = (
            f"import sys; sys.modules[{missing!r}] = None\nfrom backlit.runtime.cli import main\n"
        )
        run = [sys.executable, "-c", f"{code}main(['serve', {str(file)!r}, '--port', '0'])"]
        done = subprocess.run(run, capture_output=True, text=True)
        assert done.returncode == 1
        assert "pip install 'backlit[serve]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_session_for_each_device(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def session(path: str, providers: str, threads: Any, maps: Any, options: Any) -> Session:
        opened.append((providers, options))
        return Session(path, "cpu", 1, maps)

    monkeypatch.setattr(opening, "Session", session)
    monkeypatch.setattr(opening, "candidates", lambda _: [("cuda",)])
    monkeypatch.setattr(opening, "plan", lambda *_: (None, 2))
    settings = Settings(
        str(file), RECIPES["default"], providers="cuda", devices=(0, 3),
        options={"cuda": {"use_tf32": "0"}},
    )  # fmt: skip
    engine = opening.open_engine(settings, lambda *_: None)
    assert opened == [
        ("cuda", {"cuda": {"use_tf32": "0", "device_id": "0"}}),
        ("cuda", {"cuda": {"use_tf32": "0", "device_id": "3"}}),
    ]
    assert len(engine.runners) == len(set(map(id, engine.runners))) == 4  # two batches for each


DROPPED = """
(async () => {
  const data = new DataTransfer();
  const bytes = Uint8Array.from(atob("%s"), (one) => one.charCodeAt(0));
  data.items.add(new File([bytes], "a.jpg", { type: "image/jpeg" }));
  document.getElementById("hint").dispatchEvent(
    new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
})()
"""
PIXELS = """(() => {
  const canvas = document.getElementById("picture");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return [canvas.width, canvas.height, data.reduce((sum, one, at) => (sum * 31 + one) %% 1e9, 7)];
})()""".replace("%%", "%")
DONE = "document.getElementById('status').textContent.includes(' ms')"
SAID = "document.getElementById('status').textContent"
PRESSED = "[...document.querySelectorAll('#classes button')].map((one) => one.ariaPressed)"
FIRST = (
    "[...document.querySelectorAll('#classes button span:first-child')].map((x) => x.textContent)"
)


def test_the_page_in_a_browser(file: Path, tmp_path: Path) -> None:
    executable = browser.found()
    if executable is None:
        pytest.skip(f"no browser: one of {', '.join(browser.NAMES)}")
    photo, junk = tmp_path / "photo.jpg", tmp_path / "junk.jpg"
    photo.write_bytes(PHOTO)
    junk.write_bytes(b"junk")
    key = "a-key-of-sixteen-or-more"
    with served(file, keys=frozenset({key})) as service, browser.Browser(executable) as page:
        (wanted,) = service.session.localize(Encoded(PHOTO), top=5)
        page.open(f"http://127.0.0.1:{service.port}/")
        page.choose("#file", photo)
        page.wait("!document.getElementById('unlock').hidden")
        assert "key" in page.run(SAID)
        page.run(f"document.getElementById('key').value = '{key}'")
        page.run("document.querySelector('#unlock button').click()")
        page.wait(DONE)
        assert page.run(FIRST) == list(wanted.labels)
        assert page.run("document.getElementById('unlock').hidden")
        width, height, shown = page.run(PIXELS)
        assert (width, height) == (360, 240)
        assert page.run(PRESSED) == ["true", *["false"] * 4]

        page.run("document.querySelectorAll('#classes button')[1].click()")
        assert page.run(PRESSED) == ["false", "true", *["false"] * 3]
        assert page.run(PIXELS)[2] != shown  # another class, another map
        page.run("document.querySelectorAll('#classes button')[0].click()")
        assert page.run(PIXELS)[2] == shown
        page.run("document.getElementById('boxed').click()")
        assert page.run(PIXELS)[2] != shown

        page.choose("#file", junk)
        page.wait("document.getElementById('status').className === 'bad'")
        assert "not an image" in page.run(SAID)
        assert page.run("document.getElementById('found').hidden")

        page.run(DROPPED % base64.b64encode(PHOTO).decode())
        page.wait(DONE)
        assert page.run(FIRST) == list(wanted.labels)
        assert page.picture().startswith(b"\x89PNG")
        own = f"http://127.0.0.1:{service.port}/"
        assert all(one.startswith((own, "data:", "blob:")) for one in page.asked)
        refused = [one for one in page.complaints if "401" not in one and "422" not in one]
        assert refused == []
