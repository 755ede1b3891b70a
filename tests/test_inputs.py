"""What people give as images: each is the same picture, or an error that says what mends it."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import json
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from backlit.runtime import Session
from backlit.runtime.cli import main
from backlit.runtime.errors import BacklitError, ClassError, ImageError, OptionError
from backlit.runtime.images import addresses, fetch, public, videos
from click.testing import CliRunner
from PIL import Image, PngImagePlugin
from support.linear_file import write_linear_file

RNG = np.random.default_rng(15)
PICTURE = RNG.integers(0, 256, (8, 6, 3), dtype=np.uint8)


def encoded(picture: np.ndarray = PICTURE, kind: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    path = tmp_path_factory.mktemp("inputs") / "m.onnx"
    return Session(write_linear_file(path).path, ["cpu"], threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "a.png").write_bytes(encoded())
    return folder


def scores(session: Session, images: Any) -> list[Any]:
    found = session.saliency(images, classes=[0, 1, 2, 3, 4])
    return [one.scores.tolist() if one.error is None else one.error.problem for one in found]


def torch() -> Any:
    return pytest.importorskip("torch")


class Capture:
    """A ``cv2.VideoCapture`` of given frames, BGR."""

    def __init__(self, frames: list[Any], position: float = 0.0, opened: bool = True) -> None:
        self.frames, self.position, self.opened = iter(frames), position, opened

    def isOpened(self) -> bool:
        return self.opened

    def get(self, what: int) -> float:
        assert what == cv2.CAP_PROP_POS_FRAMES
        return self.position

    def read(self) -> tuple[bool, Any]:
        frame = next(self.frames, None)
        return frame is not None, frame


def _zipped(folder: Path) -> zipfile.Path:
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.write(folder / "a.png", "a.png")
    return zipfile.Path(folder / "a.zip", "a.png")


ONE = {
    "path": lambda folder: folder / "a.png",
    "text": lambda folder: str(folder / "a.png"),
    "bytes": lambda _: encoded(),
    "bytearray": lambda _: bytearray(encoded()),
    "memoryview": lambda _: memoryview(encoded()),
    "buffer": lambda _: io.BytesIO(encoded()),
    "zip member": _zipped,
    "Pillow": lambda _: Image.fromarray(PICTURE),
    "array": lambda _: PICTURE,
    "array of one": lambda _: PICTURE[None],
    "array, not contiguous": lambda _: np.ascontiguousarray(PICTURE.transpose(2, 0, 1)).transpose(
        1, 2, 0
    ),
    "tensor, channels last": lambda _: torch().from_numpy(PICTURE.copy()),
    "tensor, channels first": lambda _: torch().from_numpy(PICTURE.copy()).permute(2, 0, 1),
    "batch, channels first": lambda _: torch().from_numpy(PICTURE[None].copy()).movedim(3, 1),
    "batch, channels last": lambda _: torch().from_numpy(PICTURE[None].copy()),
    "array-like": lambda _: type("Own", (), {"__array__": lambda *_: PICTURE})(),
    "folder": lambda folder: folder,
    "array of paths": lambda folder: np.array([str(folder / "a.png")]),
    "capture": lambda _: Capture([PICTURE[..., ::-1]]),
    "data address": lambda _: "data:image/png;base64," + base64.b64encode(encoded()).decode(),
    "file address": lambda folder: (folder / "a.png").as_uri(),
    "set": lambda folder: {folder / "a.png"},
    "generator": lambda folder: (path for path in [folder / "a.png"]),
}


@pytest.mark.parametrize("kind", ONE)
def test_one_picture_in_every_form(session: Session, folder: Path, kind: str) -> None:
    wanted = scores(session, PICTURE)
    given = ONE[kind](folder)
    (found,) = session.saliency(given, classes=[0, 1, 2, 3, 4])
    assert found.error is None
    assert [found.scores.tolist()] == wanted
    np.testing.assert_array_equal(found.original(), PICTURE)


def test_all_forms_in_one_list(session: Session, folder: Path) -> None:
    given = [make(folder) for kind, make in ONE.items() if kind not in ("set", "generator")]
    assert scores(session, given) == scores(session, PICTURE) * len(given)


def test_an_open_file_has_its_name_and_one_that_was_read_says_rewind(
    session: Session, folder: Path
) -> None:
    with (folder / "a.png").open("rb") as file:
        first, second = session.saliency([file, file])
    assert first.image == str(folder / "a.png")
    assert second.error is not None
    assert "nothing left" in second.error.problem
    assert "seek(0)" in second.error.fix


def test_files_that_a_generator_closes_are_read_in_time(session: Session, folder: Path) -> None:
    def opened() -> Iterator[Any]:
        for number in range(30):
            if number % 2:
                with (folder / "a.png").open("rb") as file:
                    yield file
            else:
                with Image.open(folder / "a.png") as image:
                    yield image

    assert scores(session, opened()) == scores(session, PICTURE) * 30


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 5, 3), "either end"),
        ((1, 1, 1), "either end"),
        ((2, 3, 7, 3), "either end"),
        ((5, 6, 7), "neither end"),
        ((4, 5, 6), "neither end"),
        ((5,), "has shape [5]"),
        ((), "has shape []"),
        ((1, 1, 3, 5, 6), "has shape"),
    ],
)
def test_a_tensor_whose_layout_is_not_clear(session: Session, shape: Any, words: str) -> None:
    (found,) = session.saliency(torch().zeros(shape, dtype=torch().uint8))
    assert found.error is not None
    assert words in found.error.problem
    assert "pass" in found.error.fix


def test_grey_tensors(session: Session) -> None:
    grey = PICTURE[..., 0]
    tensor = torch().from_numpy(grey.copy())
    given = [tensor, tensor[None], tensor[..., None], tensor[None, None]]
    assert scores(session, given) == scores(session, grey) * 4


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "bool"])
def test_a_tensor_of_another_type(session: Session, dtype: str) -> None:
    (found,) = session.saliency(torch().zeros((3, 8, 6), dtype=getattr(torch(), dtype)))
    assert found.error is not None
    assert dtype in found.error.problem
    assert "torch.uint8" in found.error.fix


def test_a_tensor_without_values(session: Session) -> None:
    tensor = torch().zeros((3, 8, 6), dtype=torch().uint8, device="meta")
    (found,) = session.saliency(tensor)
    assert isinstance(found.error, ImageError)


async def _upload() -> bytes:
    return b""


BAD = {
    "number": (5, "int is not an image"),
    "none": (None, "NoneType is not an image"),
    "tuple": (("a", 1), "tuple is not an image"),
    "dict": ({"image": "a.png"}, "dict is not an image"),
    "empty text": ("", "an empty text"),
    "empty bytes": (b"", "the data is empty"),
    "bytes of no image": (b"no image", "not an image that Pillow reads"),
    "half a picture": (encoded(kind="jpeg")[:300], "runcated"),
    "text instead of bytes": (io.StringIO("x"), "reads str, not bytes"),
    "coroutine": (type("U", (), {"read": lambda _: _upload()})(), "reads coroutine, not bytes"),
    "file that fails": (type("F", (), {"read": lambda _: 1 / 0})(), "division by zero"),
    "array that fails": (type("A", (), {"__array__": lambda *_: 1 / 0})(), "division by zero"),
    "very long text": ("A" * 5000, "cannot be read"),
    "float array": (np.zeros((8, 6, 3)), "dtype float64"),
    "absent video": ("absent.mp4", "absent.mp4 does not exist"),
    "closed capture": (Capture([], opened=False), "cannot open"),
    "video without frames": (Capture([]), "gives no frame"),
    "data that is cut": ("data:image/png;base64,AAA", "not base64"),
    "data without data": ("data:image/png;base64", "has no data"),
    "address in a Path": (Path("https://a.org/b.png"), "lost a slash"),
    "unknown address": ("teapot://a/b.png", "teapot://a/b.png"),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_image_among_many_is_a_result_with_its_error(session: Session, kind: str) -> None:
    bad, words = BAD[kind]
    before, found, after = session.saliency([PICTURE, bad, PICTURE])
    assert before.error is None
    assert after.error is None
    assert isinstance(found.error, BacklitError)
    assert words in found.error.problem
    with pytest.raises(ImageError):
        _ = found.maps
    with contextlib.suppress(AttributeError):
        bad.seek(0)


def test_a_path_that_is_no_file_name_and_a_bare_dict(session: Session) -> None:
    for given in (5, None, {"a": PICTURE}, "\0"):
        (found,) = session.saliency(given)  # type: ignore[arg-type]
        assert isinstance(found.error, ImageError)


def test_errors_raise(session: Session) -> None:
    with pytest.raises(ImageError, match=r"absent\.png does not exist"):
        session.saliency([PICTURE, "absent.png"], errors="raise")
    with pytest.raises(OptionError, match="'ignore' is no choice"):
        session.saliency([PICTURE], errors="ignore")  # type: ignore[arg-type]


def test_the_same_unread_picture_many_times_over(session: Session, tmp_path: Path) -> None:
    large = np.asarray(Image.fromarray(PICTURE).resize((900, 700)))
    Image.fromarray(large).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        found = session.saliency([image] * 40)
    assert [one.error for one in found] == [None] * 40
    assert len({tuple(one.scores.tolist()) for one in found}) == 1


def test_a_file_address_with_a_space(session: Session, tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(encoded())
    address = (tmp_path / "a b.png").as_uri()
    assert "%20" in address
    good, bad = session.saliency([address, (tmp_path / "b.png").as_uri()])
    assert good.error is None
    assert bad.error is not None
    assert bad.error.problem.endswith("b.png does not exist.")


@pytest.mark.parametrize(
    ("path", "fix"), [("~/a.png", "expanduser"), ("photos/*.png", "glob.glob"), ("a.png", "check")]
)
def test_paths_that_a_shell_would_have_written_out(session: Session, path: str, fix: str) -> None:
    (found,) = session.saliency(path)
    assert found.error is not None
    assert fix in found.error.fix


# Folders, classes of each image, generators


def test_a_folder_gives_its_pictures_sorted_and_one_without_is_an_error(
    session: Session, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("b.png", "a.png", "notes.txt"):
        (tmp_path / "in" / name).write_bytes(encoded())
    found = session.saliency([tmp_path / "in", tmp_path / "empty"])
    assert [Path(one.image or "").name for one in found] == ["a.png", "b.png", "empty"]
    assert found[2].error is not None
    assert "folder without images" in found[2].error.problem


def test_classes_of_each_image_follow_what_a_batch_becomes(session: Session) -> None:
    batch = np.stack([PICTURE] * 3)
    rows = [[0], [1], [2]]
    assert [one.classes.tolist() for one in session.saliency(batch, rows)] == rows
    assert [one.classes.tolist() for one in session.saliency(iter(batch), rows)] == rows
    for images in (iter(batch[:2]), [batch, PICTURE]):
        with pytest.raises(ClassError, match="3 rows for"):
            session.saliency(images, rows)


def test_a_stream_reads_a_bounded_number_ahead_and_ends_when_it_is_closed(
    session: Session,
) -> None:
    taken = 0

    def endless() -> Iterator[Any]:
        nonlocal taken
        while True:
            taken += 1
            yield PICTURE

    stream = session.stream_saliency(endless(), batch=2)
    for _ in range(3):
        assert next(stream).error is None
    assert taken < 100
    stream.close()
    boxes = session.stream_localize(endless(), recipe="textbook", map="saliency", batch=2)
    assert next(boxes).width == 6
    boxes.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("backlit")]


def test_wrong_options_of_a_stream_are_told_at_once(session: Session) -> None:
    with pytest.raises(ClassError):
        session.stream_saliency([PICTURE], classes=99)
    with pytest.raises(OptionError):
        session.stream_localize([PICTURE], recipe="nonsense")


def test_an_error_of_the_generator_itself_is_its_own(session: Session) -> None:
    def broken() -> Iterator[Any]:
        yield PICTURE
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        session.saliency(broken())


# Videos


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for number in range(5):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[..., 2] = 40 * number + 20  # BGR: red
        writer.write(frame)
    writer.release()
    return path


def test_a_video_gives_its_frames_with_their_numbers(session: Session, video: Path) -> None:
    found = session.saliency(video)
    assert [one.video_frame for one in found] == [0, 1, 2, 3, 4]
    assert {one.image for one in found} == {str(video)}
    for number, one in enumerate(found):
        red, green, blue = one.original().reshape(-1, 3).mean(0)
        assert abs(red - (40 * number + 20)) < 8
        assert max(green, blue) < 12
    assert found[2].to_dict()["video_frame"] == 2
    assert found[2].name == f"{video} frame 2"


def test_a_capture_goes_on_where_it_is_and_stays_open(session: Session, video: Path) -> None:
    capture = cv2.VideoCapture(str(video))
    capture.read()
    capture.read()
    assert [one.video_frame for one in session.saliency(capture)] == [2, 3, 4]
    assert capture.isOpened()
    (end,) = session.saliency(capture)
    assert end.error is not None
    assert "gives no frame" in end.error.problem
    capture.release()


def test_a_camera_has_no_position_and_fills_its_memory_again(session: Session) -> None:
    memory = np.zeros((8, 6, 3), np.uint8)

    def shots() -> Iterator[Any]:
        for value in (10, 200, 90):
            memory[:] = value
            yield memory

    for position in (-1.0, 0.0, float("nan")):
        capture = Capture([], position)
        capture.frames = shots()
        found = session.saliency(capture)  # type: ignore[arg-type]
        assert [one.video_frame for one in found] == [0, 1, 2]
        assert [int(one.original()[0, 0, 0]) for one in found] == [10, 200, 90]


def test_grey_frames_and_a_frame_of_no_picture(session: Session) -> None:
    grey, strange = session.saliency(
        Capture([PICTURE[..., 0].copy(), np.zeros((2, 2, 2), np.uint8)])  # type: ignore[arg-type]
    )
    np.testing.assert_array_equal(grey.original()[..., 1], PICTURE[..., 0])
    assert strange.error is not None
    assert "frame 1 of the video" in strange.error.problem


def test_a_damaged_video_and_one_without_opencv(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    (found,) = session.saliency(tmp_path / "a.mp4")
    assert found.error is not None
    assert "OpenCV cannot open" in found.error.problem
    monkeypatch.setitem(sys.modules, "cv2", None)
    (found,) = list(videos.frames(str(tmp_path / "a.mp4")))
    assert "pip install 'backlit[boxes]'" in found.error.fix  # type: ignore[union-attr]


# Addresses


class Handler(http.server.BaseHTTPRequestHandler):
    """Pictures, and everything that goes wrong with them."""

    def do_GET(self) -> None:
        answers = {
            "/a.png": (200, "image/png", encoded()),
            "/odd%20name.png": (200, "application/octet-stream", encoded()),
            "/page": (200, "text/html; charset=utf-8", b"<p>no"),
            "/clip": (200, "video/mp4", b"x"),
            "/empty": (200, "image/png", b""),
            "/text": (200, "text/plain", b"no picture"),
            "/large": (200, "image/png", b"x" * 3000),
        }
        if self.path in ("/there", "/elsewhere"):
            self.send_response(302)
            target = "/a.png" if self.path == "/there" else "file:///etc/passwd"
            self.send_header("Location", target)
            self.end_headers()
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x")
        elif self.path == "/slow":
            self.server.stop.wait(20)  # type: ignore[attr-defined]
        else:
            code, kind, data = answers.get(self.path, (404, "text/plain", b""))
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the reader may have had enough
                self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.stop = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=functools.partial(server.serve_forever, 0.05), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.stop.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("page", ["/a.png", "/odd name.png", "/odd%20name.png", "/there"])
def test_a_picture_on_the_web(session: Session, site: str, page: str) -> None:
    (found,) = session.saliency(site + page)
    assert found.image == site + page
    np.testing.assert_array_equal(found.original(), PICTURE)  # without another request
    assert found.overlay().size == (6, 8)


def test_the_command_line_takes_addresses_and_says_what_a_video_is(
    session: Session, site: str, tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    given = [session.path, f"{site}/a.png", str(tmp_path / "a.mp4")]
    done = CliRunner().invoke(main, ["saliency", *given, "-o", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert json.loads(done.stdout.splitlines()[0])["image"] == f"{site}/a.png"
    assert (tmp_path / "out" / "a.backlit.png").exists()
    assert "a.mp4 is a video." in done.stderr


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("/absent", "answers 404"),
        ("/page", "is a web page"),
        ("/clip", "is a video"),
        ("/empty", "is empty"),
        ("/text", "not an image that Pillow reads"),
        ("/short", "broke off after 1 of 1000 bytes"),
        ("/elsewhere", "answers 302"),
        ("/large", "is larger than"),
        ("/slow", "takes too long"),
    ],
)
def test_what_goes_wrong_on_the_web(
    session: Session, site: str, page: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "BYTES", 2000)
    monkeypatch.setattr(fetch, "SECONDS", 0.3 if page == "/slow" else 20.0)
    good, bad = session.saliency([PICTURE, site + page])
    assert good.error is None
    assert bad.error is not None
    assert words in bad.error.problem
    assert bad.error.problem.startswith(site)


@pytest.mark.parametrize("address", ["http://", "http://a b", "http://[::1", "https://127.0.0.1:1"])
def test_an_address_that_leads_nowhere(session: Session, address: str) -> None:
    (found,) = session.saliency(address)
    assert isinstance(found.error, ImageError)


def test_signed_addresses_and_data_are_not_shown_whole() -> None:
    assert addresses.shown("https://a.org/b.png?" + "s" * 300) == "https://a.org/b.png..."
    assert len(addresses.shown("data:image/png;base64," + "A" * 999)) < 30


def test_addresses_are_told_from_paths() -> None:
    for text in ("http://a", "HTTPS://a", "s3://b/c", "gs://b", "data:image/png,", "zip://a::b"):
        assert addresses.is_address(text)
    for text in ("a.png", "C:/a.png", "c:\\a.png", "/a", "a:b", "12:30.png", "./s3"):
        assert not addresses.is_address(text)


def test_paths_do_without_what_fetches() -> None:
    code = "import sys, backlit; backlit.Session; print('urllib.request' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_other_addresses_by_fsspec(session: Session) -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://pictures/a.png", "wb") as file:
        file.write(encoded())
    (found,) = session.saliency("memory://pictures/a.png")
    np.testing.assert_array_equal(found.original(), PICTURE)
    (opened,) = session.saliency(fsspec.open("memory://pictures/a.png", "rb"))
    np.testing.assert_array_equal(opened.original(), PICTURE)
    (lost,) = session.saliency(fsspec.open("memory://pictures/b.png", "rb"))
    assert isinstance(lost.error, ImageError)
    (absent,) = session.saliency("memory://pictures/b.png")
    assert absent.error is not None
    assert absent.error.problem == "memory://pictures/b.png does not exist."


@pytest.mark.parametrize(
    ("address", "fix"),
    [("s3://a/b.png", "pip install fsspec s3fs"), ("gs://a/b.png", "pip install fsspec gcsfs"),
     ("hdfs://a/b.png", "pip install fsspec")],
)  # fmt: skip
def test_without_fsspec_one_line_says_what_to_install(
    session: Session, address: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    (found,) = session.saliency(address)
    assert found.error is not None
    assert found.error.fix == fix


def test_with_fsspec_and_without_its_package(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    (found,) = session.saliency("s3://a/b.png")
    assert found.error is not None
    assert found.error.fix == "pip install fsspec s3fs"


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False), ("0.0.0.0", False), ("10.1.2.3", False), ("172.16.0.1", False),
        ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False),
        ("224.0.0.1", False), ("255.255.255.255", False), ("::1", False), ("::", False),
        ("fe80::1%eth0", False), ("fd00::1", False), ("ff02::1", False),
        ("::ffff:127.0.0.1", False), ("64:ff9b::7f00:1", False), ("64:ff9b::5db8:d822", True),
        ("2002:7f00:1::", False), ("2001:0:7f00:1::", False),
    ],
)  # fmt: skip
def test_what_is_of_the_public_internet(address: str, wanted: bool) -> None:
    assert public.is_public(address) is wanted


def test_strangers_addresses_do_not_reach_this_machine(
    site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a name that means it among others, and not by a redirect."""
    port = site.rsplit(":", 1)[1]
    for host in ("127.0.0.1", "localhost", "0x7f000001", "2130706433", "0177.0.0.1"):
        with pytest.raises(ImageError, match=r"private network|cannot be fetched"):
            fetch.fetch_public(f"http://{host}:{port}/a.png", 10**6, 5.0)
    with pytest.raises(ImageError, match="private network"):
        fetch.fetch_public(f"https://127.0.0.1:{port}/a.png", 10**6, 5.0)
    known = socket.getaddrinfo

    def two(host: str, *rest: object, **named: object) -> list[object]:
        mixed = ["93.184.216.34", "127.0.0.1"] if host == "both.example" else [host]
        return [one for each in mixed for one in known(each, int(port), type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    with pytest.raises(ImageError, match=r"both\.example is a machine of a private network"):
        fetch.fetch_public(f"http://both.example:{port}/a.png", 10**6, 5.0)


def test_a_strangers_image_is_fetched_and_its_redirect_looked_at(
    site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public, "is_public", lambda _: True)
    assert fetch.fetch_public(f"{site}/a.png", 10**6, 20.0) == fetch.fetch(f"{site}/a.png")
    with pytest.raises(ImageError, match="larger than"):
        fetch.fetch_public(f"{site}/a.png", 100, 20.0)
    answers = iter([True, False])
    monkeypatch.setattr(public, "is_public", lambda _: next(answers))
    with pytest.raises(ImageError, match="private network"):
        fetch.fetch_public(f"{site}/there", 10**6, 20.0)


def test_headers_that_make_pillow_raise_anything_are_errors_of_images(session: Session) -> None:
    said, file = PngImagePlugin.PngInfo(), io.BytesIO()
    said.add_text("a", "x" * (80 << 20), zip=True)
    Image.fromarray(PICTURE).save(file, "png", pnginfo=said)
    jpeg2000, sgi = bytearray(encoded(kind="jpeg2000")), bytearray(encoded(kind="sgi"))
    at = jpeg2000.index(b"\xff\x51")
    jpeg2000[at + 2 : at + 4] = b"\0\1"  # the length of the size
    sgi[2:12] = b"\7" * 10
    odd = [file.getvalue(), bytes(jpeg2000), bytes(sgi), b"P6 " + b"1" * 99 + b" 1 255 "]
    for found in session.saliency([*odd, PICTURE])[:-1]:
        assert isinstance(found.error, ImageError)
