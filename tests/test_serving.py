"""The service over real connections: what it answers, what it refuses, what it holds."""

from __future__ import annotations

import base64
import io
import json
import logging
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from backlit.runtime.images.load import Encoded
from backlit.runtime.serving import logs
from backlit.runtime.serving.protocol import BoundedProtocol
from PIL import Image, PngImagePlugin
from support.service import Service, export_embedded, form, reply, served
from support.waiting import until

from backlit import models

PHOTOS = [path.read_bytes() for path in sorted(models.samples().glob("*.jpg"))]
PHOTO = PHOTOS[7]
JSON = "application/json"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_embedded(tmp_path_factory.mktemp("serving") / "tiny.backlit.onnx")


@pytest.fixture(scope="module")
def service(file: Path) -> Iterator[Service]:
    with served(file, limits={"image_bytes": 200_000, "pixels": 4_000_000}) as service:
        yield service


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The lines of the log."""
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    before = logs.LOG.handlers[:], logs.LOG.propagate, logs.LOG.level
    last, show = logging.lastResort, warnings.showwarning
    logs.begin()
    lines: list[Any] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = logs.JsonLines().format(record)
            assert "\n" not in text
            lines.append(json.loads(text))

    logs.LOG.addHandler(Lines())
    yield lines
    logs.LOG.handlers[:], logs.LOG.propagate = before[0], before[1]
    logs.LOG.setLevel(before[2])
    logging.lastResort, warnings.showwarning = last, show
    assert all(line.startswith("{") for line in written.getvalue().splitlines())


def png(width: int, height: int, **text: str) -> bytes:
    written, said = io.BytesIO(), PngImagePlugin.PngInfo()
    for name, value in text.items():
        said.add_text(name, value, zip=True)
    Image.new("RGB", (width, height)).save(written, "png", pnginfo=said)
    return written.getvalue()


def same(found: Any, wanted: Any) -> None:
    assert {**found, "results": []} == {**wanted, "results": []}
    for a, b in zip(found["results"], wanted["results"], strict=True):
        assert {**a, "score": 0} == {**b, "score": 0}
        assert a["score"] == pytest.approx(b["score"], rel=1e-5)


def test_every_way_of_sending_gets_what_localize_prints(service: Service) -> None:
    (wanted,) = service.session.localize(Encoded(PHOTO), top=2)
    body, kind = form(PHOTO, top="2")
    encoded = base64.b64encode(PHOTO).decode()
    for answer in (
        service.post(body, kind=kind),
        service.post(form(PHOTO)[0], "/localize?top=2", kind),
        service.post(PHOTO, "/localize?top=2"),
        service.post(PHOTO, "/localize?top=2", "application/x-www-form-urlencoded"),  # curl's own
        service.post(json.dumps({"image": encoded, "top": 2}), kind=JSON),
        service.post(
            json.dumps({"image": f"data:image/jpeg;base64,{encoded}", "top": 2}), kind=JSON
        ),
        service.post(iter([PHOTO[:100], PHOTO[100:]]), "/localize?top=2"),  # without a length
    ):
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == JSON
        same(answer.json(), wanted.to_dict())


def test_classes_by_index_label_and_rank(service: Service) -> None:
    (best,) = service.session.localize(Encoded(PHOTO), top=2)
    answer = service.post(PHOTO, "/localize?class=3&class=house&class=-2")
    assert [one["class"] for one in answer.json()["results"]] == [3, 5, best.classes[1]]
    body = json.dumps({"image": base64.b64encode(PHOTO).decode(), "class": "house"})
    assert [one["class"] for one in service.post(body, kind=JSON).json()["results"]] == [5]


def test_pictures_are_those_of_the_result(service: Service) -> None:
    answer = service.post(PHOTO, "/localize?top=2&overlay=true&map=true").json()
    (wanted,) = service.session.localize(Encoded(PHOTO), top=2)
    assert answer["map_box"] == [0, 0, 360, 240]  # the embedded classifier sees the whole image
    for place, one in enumerate(answer["results"]):
        overlay = Image.open(io.BytesIO(base64.b64decode(one["overlay_png"])))
        np.testing.assert_array_equal(np.asarray(overlay), np.asarray(wanted.overlay(place)))
        grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(one["map_png"]))))
        values = np.abs(wanted.maps[place])
        assert grey.shape == values.shape
        strong = values < np.quantile(values, 0.99)
        expected = 255 * values / np.quantile(values, 0.99)
        np.testing.assert_allclose(grey[strong], expected[strong], atol=1)


def test_a_large_photo_gets_an_overlay_of_a_bounded_size(service: Service) -> None:
    answer = service.post(png(2000, 1000), "/localize?overlay=1").json()
    overlay = Image.open(io.BytesIO(base64.b64decode(answer["results"][0]["overlay_png"])))
    assert overlay.size == (1024, 512)


REFUSED = {
    "nothing": (b"", "/localize", "image/jpeg", 400, "request"),
    "noise": (bytes(range(256)) * 9, "/localize", "image/jpeg", 422, "image"),
    "text": (b"<html></html>", "/localize", "text/html", 422, "image"),
    "half a photo": (PHOTO[: len(PHOTO) // 2], "/localize", "image/jpeg", 422, "image"),
    "too many pixels": (png(4000, 1001), "/localize", "image/png", 422, "image"),
    "a bomb of text": (png(9, 9, a="x" * (80 << 20)), "/localize", "image/png", 422, "image"),
    "a program": (b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 9 9\n", "/localize", "image/eps", 422,
                  "image"),
    "a video": (b"\0\0\0\x18ftypmp42" + bytes(99), "/localize", "video/mp4", 422, "image"),
    "too many bytes": (bytes(200_001), "/localize", "image/jpeg", 413, "size"),
    "far too many bytes": (bytes(3_000_000), "/localize", "image/jpeg", 413, "size"),
    "no form": (b"--x", "/localize", "multipart/form-data", 400, "request"),
    "a broken form": (b"no form", "/localize", "multipart/form-data; boundary=x", 400, "request"),
    "a form without a file": (form(b"")[0].replace(b'; filename="a.jpg"', b""), "/localize",
                              "multipart/form-data; boundary=x", 400, "request"),
    "another file": (form(PHOTO)[0].replace(b'name="image"', b'name="other"'), "/localize",
                     "multipart/form-data; boundary=x", 400, "request"),
    "two files": (form(PHOTO)[0].replace(b"--x--", form(PHOTO)[0]), "/localize",
                  "multipart/form-data; boundary=x", 400, "request"),
    "no JSON": (b"{", "/localize", JSON, 400, "request"),
    "deep JSON": (b"[" * 100_000, "/localize", JSON, 400, "request"),
    "no object": (b"[]", "/localize", JSON, 400, "request"),
    "an empty object": (b"{}", "/localize", JSON, 400, "request"),
    "not UTF-8": (b"\xff\xfe{", "/localize", JSON, 400, "request"),
    "no base64": (b'{"image": "%%%"}', "/localize", JSON, 400, "request"),
    "a number": (b'{"image": 1}', "/localize", JSON, 400, "request"),
    "a list of classes": (b'{"image": "", "class": [[1]]}', "/localize", JSON, 400, "request"),
    "an address": (b'{"url": "https://example.org/a.jpg"}', "/localize", JSON, 400, "request"),
    "both": (b'{"url": "https://example.org/a.jpg", "image": "AA=="}', "/localize", JSON, 400,
             "request"),
    "a misspelt word": (PHOTO, "/localize?tpo=2", "image/jpeg", 400, "request"),
    "no number": (PHOTO, "/localize?top=two", "image/jpeg", 400, "request"),
    "none": (PHOTO, "/localize?top=0", "image/jpeg", 400, "request"),
    "many": (PHOTO, "/localize?top=11", "image/jpeg", 400, "request"),
    "many classes": (PHOTO, "/localize?" + "class=1&" * 11, "image/jpeg", 400, "request"),
    "two wishes": (PHOTO, "/localize?top=1&class=1", "image/jpeg", 400, "request"),
    "neither": (PHOTO, "/localize?map=maybe", "image/jpeg", 400, "request"),
    "an unknown label": (PHOTO, "/localize?class=zebra", "image/jpeg", 422, "class"),
    "an unknown class": (PHOTO, "/localize?class=12", "image/jpeg", 422, "class"),
    "a huge class": (PHOTO, "/localize?class=" + "9" * 30, "image/jpeg", 422, "class"),
    "another address": (PHOTO, "/elsewhere", "image/jpeg", 404, "address"),
    "another method": (PHOTO, "/healthz", "image/jpeg", 405, "address"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why_and_the_connection_goes_on(
    name: str, service: Service, log: list[Any]
) -> None:
    body, path, kind, status, word = REFUSED[name]
    connection = service.connect()
    for _ in range(2):
        connection.request("POST", path, body, {"Content-Type": kind, "X-Request-ID": "mine.1"})
        answer = reply(connection)
        assert (answer.status, answer.json()["kind"]) == (status, word), answer.body
        assert answer.headers["x-request-id"] == answer.json()["request"] == "mine.1"
        described = service.ask("GET", "/openapi.json").json()
        jsonschema.validate(answer.json(), described["components"]["schemas"]["Error"])
    connection.request("POST", "/localize", PHOTO)
    assert reply(connection).status == 200
    connection.close()
    until(lambda: service.engine.taken == 0)
    assert not any("trace" in line for line in log)


def test_an_endless_body_is_stopped(service: Service) -> None:
    sent = 0
    with service.socket() as connection:
        connection.sendall(
            b"POST /localize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012
            while sent < 1 << 34:  # the rest is thrown away for two seconds
                connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 65536
        assert b" 413 " in connection.recv(1000)


def test_the_document_is_of_the_service(service: Service) -> None:
    described = service.ask("GET", "/openapi.json").json()
    jsonschema.Draft202012Validator.check_schema(described["components"]["schemas"]["Found"])
    found = service.post(PHOTO, "/localize?top=2&overlay=true&map=true").json()
    whole = {**described["components"]["schemas"]["Found"], "components": described["components"]}
    jsonschema.validate(found, whole)
    whole["additionalProperties"] = False
    jsonschema.validate(found, whole)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found, "results": [{**found["results"][0], "box": [1]}]}, whole)
    page = service.ask("GET", "/docs")
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in page.body.decode()
            status = service.ask(method.upper(), path).status
            assert str(status) in operation["responses"]


def test_pages_take_nothing_from_elsewhere(service: Service) -> None:
    for path, kind in (("/", "text/html"), ("/docs", "text/html"), ("/page.js", "text/javascript"),
                       ("/page.css", "text/css")):  # fmt: skip
        answer = service.ask("GET", path)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(kind)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert b"http" not in answer.body
        assert b"style=" not in answer.body


def test_metrics_count_what_was_done(file: Path) -> None:
    with served(file) as service:
        for body in (PHOTO, PHOTO, b"junk"):
            service.post(body)
        service.ask("GET", "/a/b")
        assert service.number('backlit_requests_total{path="/localize",status="200"}') == 2
        assert service.number('backlit_requests_total{path="/localize",status="422"}') == 1
        assert service.number('backlit_requests_total{path="other",status="404"}') == 1
        assert service.number('backlit_errors_total{kind="image"}') == 1
        assert service.number("backlit_batch_images_sum") == 2
        assert service.number("backlit_run_seconds_count") == 2
        assert service.number("backlit_wait_seconds_count") == 2
        assert service.number('backlit_request_seconds_count{path="/localize"}') == 3
        assert service.number("backlit_queue") == 0
        text = service.ask("GET", "/metrics").body.decode()
        assert 'provider="cpu"' in text
        assert 'file="tiny.backlit.onnx"' in text


def test_the_log_has_a_line_for_each_request(service: Service, log: list[Any]) -> None:
    service.ask("POST", "/localize?top=2", PHOTO, {"X-Request-ID": "a-1"})
    odd = service.ask("GET", "/%0A%22", None, {"X-Request-ID": 'x" injected'})
    service.ask("GET", "/healthz")
    until(lambda: len(log) == 2)
    first, second = log
    assert {name: first[name] for name in ("event", "request", "method", "path", "status")} == {
        "event": "request", "request": "a-1", "method": "POST", "path": "/localize", "status": 200,
    }  # fmt: skip
    assert (first["bytes"], first["classes"], first["batch"]) == (len(PHOTO), 2, 1)
    assert first["ms"] >= first["run_ms"] > 0
    assert second["path"] == '/\n"'
    assert second["request"] == odd.headers["x-request-id"] != 'x" injected'


def test_what_libraries_say_is_in_the_log_as_lines(log: list[Any], service: Service) -> None:
    logging.getLogger("some.library").warning("of\nits own")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("take care", UserWarning, stacklevel=1)
    assert [line["event"] for line in log] == ["take care"]
    service.post(b"no form", kind="multipart/form-data; boundary=x")
    until(lambda: len(log) == 2)
    assert log[1]["event"] == "request"


def test_health(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    assert service.ask("GET", "/healthz").json() == {"alive": True}
    assert service.ask("GET", "/readyz").json() == {"ready": True}
    monkeypatch.setattr(service.engine, "_threads", [threading.Thread()])
    assert service.ask("GET", "/healthz").status == 503
    assert service.ask("GET", "/readyz").status == 503


def test_overload_is_refused_and_loses_nothing(file: Path) -> None:
    with served(file, limits={"queue": 4}) as service:
        wanted = service.session.localize([Encoded(photo) for photo in PHOTOS])
        service.session.free.clear()
        found: list[Any] = [None] * 40

        def ask(number: int) -> None:
            found[number] = service.post(PHOTOS[number % len(PHOTOS)])

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(found))]
        for thread in threads:
            thread.start()
        until(lambda: sum(one is not None for one in found) == 36)
        assert not service.engine.ready
        assert service.ask("GET", "/readyz").status == 503
        assert service.ask("GET", "/healthz").status == 200
        service.session.free.set()
        for thread in threads:
            thread.join(60)
        for number, answer in enumerate(found):
            if answer.status == 429:
                assert 1 <= int(answer.headers["retry-after"]) <= 60
            else:
                same(answer.json(), wanted[number % len(PHOTOS)].to_dict())
        assert sum(answer.status == 200 for answer in found) == 4
        assert service.post(PHOTO).status == 200


def test_bodies_are_held_within_bounds(file: Path) -> None:
    with served(file, limits={"memory": 2 * len(PHOTO), "image_bytes": 200_000}) as service:
        service.session.free.clear()
        first = threading.Thread(target=service.post, args=(PHOTO,))
        first.start()
        assert service.session.begun.acquire(timeout=60)
        with service.socket() as half:  # holds what has come of it
            half.sendall(
                b"POST /localize HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n" + PHOTO
            )
            until(lambda: service.post(PHOTO).status == 429)
        service.session.free.set()
        first.join(60)
        until(lambda: service.post(PHOTO).status == 200)


def test_no_answer_in_time_is_504(file: Path) -> None:
    with served(file, limits={"seconds": 0.5}) as service:
        service.session.free.clear()
        answer = service.post(PHOTO)
        assert (answer.status, answer.json()["kind"]) == (504, "late")
        service.session.free.set()
        until(lambda: service.engine.taken == 0)
        assert service.post(PHOTO).status == 200


def test_who_hangs_up_is_not_waited_for(file: Path, log: list[Any]) -> None:
    with served(file, batch=1) as service:
        service.session.free.clear()
        threading.Thread(target=service.post, args=(PHOTO,)).start()
        assert service.session.begun.acquire(timeout=60)
        head = (
            f"POST /localize HTTP/1.1\r\nHost: x\r\nContent-Length: {len(PHOTO)}\r\n\r\n".encode()
        )
        for sent in (head[:9], head, head + PHOTO[:99], head + PHOTO, head + PHOTO):
            with service.socket() as connection:
                connection.sendall(sent)
                if sent.endswith(PHOTO):
                    until(lambda: service.engine.taken >= 2)
        until(lambda: service.number('backlit_errors_total{kind="gone"}') == 4)
        service.session.free.set()
        until(lambda: service.engine.taken == 0)
        assert len(service.session.runs) == 1
        assert service.post(PHOTO).status == 200
    assert not any("trace" in line for line in log)


def closes(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_a_slow_head_is_not_waited_for(file: Path) -> None:
    with served(file, limits={"head_seconds": 0.4}) as service:
        for sent in (b"", b"POST /loc", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: b"):
            with service.socket() as connection:
                if sent:
                    connection.sendall(sent)
                assert closes(connection) == b""
        # One that dribbles byte by byte is never idle; and neither is one after an answer.
        with service.socket() as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in connection.recv(1000)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012
                for _ in range(600):
                    connection.sendall(b"G")
                    time.sleep(0.05)


def test_a_slow_body_is_not_waited_for(file: Path) -> None:
    with served(file, limits={"seconds": 0.4}) as service, service.socket() as connection:
        connection.sendall(b"POST /localize HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nabc")
        said = closes(connection)
        assert b" 408 " in said
        assert b'"kind": "slow"' in said


def test_an_answer_that_nobody_reads_is_not_kept(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(file, limits={"seconds": 20}) as service:
        monkeypatch.setattr(BoundedProtocol, "exchange_seconds", 0.3)
        service.session.free.clear()  # stands for an answer that does not get through
        with service.socket() as connection:
            head = f"POST /localize HTTP/1.1\r\nHost: x\r\nContent-Length: {len(PHOTO)}\r\n\r\n"
            connection.sendall(head.encode() + PHOTO)
            assert closes(connection) == b""
        until(lambda: service.number('backlit_errors_total{kind="gone"}') == 1)


def test_keys(file: Path) -> None:
    keys = frozenset({"a-key-of-sixteen-or-more", "another-key-of-that-kind"})
    with served(file, keys=keys) as service:
        for name, value, status in (
            ("Authorization", "Bearer a-key-of-sixteen-or-more", 200),
            ("authorization", "bearer another-key-of-that-kind", 200),
            ("X-API-Key", "another-key-of-that-kind", 200),
            ("X-API-Key", "another-key-of-that-kin", 401),
            ("X-API-Key", "", 401),
            ("X-API-Key", "ä", 401),
            ("Authorization", "Basic a-key-of-sixteen-or-more", 401),
            ("X-Other", "a-key-of-sixteen-or-more", 401),
        ):
            answer = service.ask("POST", "/localize", PHOTO, {name: value})
            assert answer.status == status, (name, value)
            if status == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["kind"] == "key"
        assert service.ask("GET", "/healthz").status == 200
        assert (
            "bearer" in service.ask("GET", "/openapi.json").json()["components"]["securitySchemes"]
        )


def test_addresses_are_fetched_where_that_is_allowed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(address: str, most: int, seconds: float) -> bytes:
        asked.append((address, most, seconds <= 30))
        return PHOTO

    with served(file, urls=True) as service:
        refused = service.post(b'{"url": "http://127.0.0.1:1/a.jpg"}', kind=JSON)
        assert (refused.status, refused.json()["kind"]) == (422, "image")
        assert "private" in refused.json()["error"]
        for url in ("file:///etc/passwd", "/etc/passwd", "data:,a", "ftp://example.org/a", ""):
            assert service.post(json.dumps({"url": url}), kind=JSON).status == 422
        monkeypatch.setattr("backlit.runtime.serving.app.fetch_public", fetch)
        answer = service.post(b'{"url": "https://example.org/a.jpg", "top": 2}', kind=JSON)
        (wanted,) = service.session.localize(Encoded(PHOTO), top=2)
        same(answer.json(), wanted.to_dict())
    assert asked == [("https://example.org/a.jpg", 20_000_000, True)]


def test_a_fault_of_the_service_is_logged_once_and_told_to_nobody(
    file: Path, log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backlit.runtime.serving.app.answer", lambda *_, **__: 1 / 0)
    with served(file) as service:
        answer = service.post(PHOTO)
        assert (answer.status, answer.json()["kind"]) == (500, "fault")
        assert b"division" not in answer.body
    faults = [line for line in log if "trace" in line]
    assert len(faults) == 1
    assert "ZeroDivisionError" in faults[0]["trace"]
    assert faults[0]["request"] == answer.json()["request"]
