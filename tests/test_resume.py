"""A run that is killed goes on where it stopped and ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from backlit.runtime.cli import group as cli
from backlit.runtime.errors import OptionError, OutputError
from backlit.runtime.output.run_log import RunLog
from click.testing import CliRunner
from PIL import Image
from support.linear_file import write_linear_file

PROGRAM = [sys.executable, "-m", "backlit.runtime"]
COUNT, BAD = 40, 17


def run(*args, stdin=None):
    return CliRunner().invoke(cli.main, [str(arg) for arg in args], input=stdin)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A file, and a folder of images with a damaged one in the middle."""
    folder = tmp_path_factory.mktemp("work")
    write_linear_file(
        folder / "m.onnx", height=32, width=32, labels=("cat", "dog", "hen"), classes=3
    )
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(COUNT):
        image = Image.fromarray(rng.integers(0, 256, (300 + number, 400, 3), dtype=np.uint8))
        image.save(folder / "photos" / f"{number:02d}.jpg")
    (folder / "photos" / f"{BAD}.jpg").write_bytes(b"\xff\xd8\xff damaged")
    return folder


OPTIONS = ("--top", "2", "--masks", "--no-pictures", "--format", "csv", "--format", "voc")


@pytest.fixture(scope="module")
def whole(work):
    """What an unbroken run leaves."""
    result = run("localize", work / "m.onnx", work / "photos", "-o", work / "whole", *OPTIONS)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == COUNT
    return contents(work / "whole")


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_again_and_again(work, whole, tmp_path, seed):
    rng = random.Random(seed)
    out = tmp_path / "out"
    command = [*PROGRAM, "localize", str(work / "m.onnx"), str(work / "photos"), "-o", str(out)]
    counts, printed = [], []
    for _ in range(3):
        process = subprocess.Popen(
            [*command, *OPTIONS, "--resume"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        printed.extend(process.stdout.readline() for _ in range(rng.randrange(1, 8)))
        time.sleep(rng.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        lines = (out / "boxes.jsonl").read_bytes().split(b"\n")[:-1]
        counts.append(len(lines))
        assert [text + b"\n" for text in lines] == whole["boxes.jsonl"].splitlines(True)[
            : len(lines)
        ]
    assert 0 < counts[0] < counts[1] < counts[2] < COUNT
    images = [json.loads(line)["image"] for line in printed]
    assert len(set(images)) == len(images)
    last = subprocess.run([*command, *OPTIONS, "--resume"], capture_output=True, text=True)
    assert last.returncode == 1  # the damaged image counts, whichever run met it
    assert f"{COUNT - 1} of {COUNT} images on cpu ({counts[-1]} were done before)" in last.stderr
    assert len(last.stdout.splitlines()) == COUNT - counts[-1]
    assert contents(out) == whole


def test_a_torn_line_is_done_again(work, whole, tmp_path):
    out = tmp_path / "out"
    args = ("localize", work / "m.onnx", work / "photos", "-o", out, *OPTIONS, "--resume")
    run(*args)
    text = whole["boxes.jsonl"]
    ends = [place + 1 for place, byte in enumerate(text) if byte == 10]
    (out / "coco.json").unlink(missing_ok=True)
    for cut in (ends[4] - 1, ends[4] + 1, ends[4], 0, 5, len(text) - 1):
        (out / "boxes.jsonl").write_bytes(text[:cut])
        (out / ".99.jpg.4194305.1.backlit.part").write_bytes(b"left by a killed process")
        result = run(*args)
        assert len(result.stdout.splitlines()) == COUNT - sum(end <= cut for end in ends)
        assert contents(out) == whole


def test_other_formats_can_be_had_of_a_finished_run(work, tmp_path):
    args = ("localize", work / "m.onnx", work / "photos", "-o", tmp_path, "--no-pictures")
    run(*args)
    before = (tmp_path / "boxes.jsonl").read_bytes()
    result = run(*args, "--resume", "--format", "coco")
    assert result.stdout == ""
    assert (tmp_path / "boxes.jsonl").read_bytes() == before
    found = sum(len(json.loads(line).get("results", ())) for line in before.splitlines())
    assert len(json.loads((tmp_path / "coco.json").read_text())) == found == COUNT - 1


def test_a_list_on_stdin_goes_on(work, tmp_path):
    images = [f"{path}\n" for path in sorted((work / "photos").iterdir())][:12]
    whole, out = tmp_path / "whole", tmp_path / "out"
    args = ("localize", work / "m.onnx", "-", "--masks", "-o")
    run(*args, whole, stdin="".join(images))
    for end in (3, 3, 7, 12):
        run(*args, out, "--resume", stdin="".join(images[:end]))
        assert len((out / "boxes.jsonl").read_bytes().splitlines()) == end
    assert contents(out) == contents(whole)
    assert {f"{n:06d}_{n - 1:02d}.backlit.png" for n in range(1, 13)} < set(contents(out))
    result = run(*args, out, "--resume", stdin="".join([*images[:5], *images[6:]]))
    assert result.exit_code == 2
    assert "image 6 of" in result.stderr
    assert "05.jpg, but the list has" in result.stderr
    result = run(*args, out, "--resume", stdin="".join(images[:5]))
    assert "but the list ends" in result.stderr
    assert contents(out) == contents(whole)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--top", "2"], "was begun with classes [[-1]], not [[-1, -2]]"),
        (["--class", "dog"], "classes [[-1]], not [[1]]"),
        (["--recipe", "threshold"], 'recipe "pixels", not "pixels-threshold"'),
        (["--crops", "1"], "crops"),
        (["--masks"], "masks false, not true"),
        (["--pictures"], "pictures false, not true"),
    ],
)
def test_other_options_are_an_error_with_the_fix(work, tmp_path, options, words):
    photos = sorted((work / "photos").iterdir())[:2]
    base = ("localize", work / "m.onnx", *photos, "-o", tmp_path)
    run(*base, "--no-pictures")
    before = contents(tmp_path)
    drawn = [] if "--pictures" in options else ["--no-pictures"]
    result = run(*base, "--resume", *drawn, *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "fix: resume with the options it was begun with" in result.stderr
    assert result.stdout == ""
    assert contents(tmp_path) == before


def test_another_model_is_an_error(work, tmp_path):
    photo = work / "photos" / "00.jpg"
    run("localize", work / "m.onnx", photo, "-o", tmp_path)
    write_linear_file(work / "other.onnx", height=32, width=32, seed=5)
    result = run("localize", work / "other.onnx", photo, "-o", tmp_path, "--resume")
    assert result.exit_code == 2
    assert "was begun with model" in result.stderr


@pytest.mark.parametrize("option", ["--resume", "--masks", "--pictures", "--format voc"])
def test_options_that_need_a_folder(work, option):
    result = run("localize", work / "m.onnx", work / "photos", *option.split())
    assert result.exit_code == 2
    assert "-o FOLDER" in result.stderr


# The log alone

SETTINGS = {"top": 1}


def lines(*images):
    return [{"image": image, "results": []} for image in images]


def log_run(folder, images, resume=False, finish=True, settings=SETTINGS):
    listed = iter(images)
    with RunLog(folder, settings, resume) as log:
        log.skip(listed)
        for line in lines(*listed):
            log.add(line)
        if finish:
            log.end()
            log.finish()


def images_in(path):
    return [json.loads(line)["image"] for line in path.read_text().splitlines()]


def test_lines_of_a_finished_run_stay_until_the_new_one_is_finished(tmp_path):
    path, previous = tmp_path / "boxes.jsonl", tmp_path / "boxes.previous.jsonl"
    log_run(tmp_path, "ab")
    RunLog(tmp_path, SETTINGS, resume=False)
    assert images_in(path) == ["a", "b"]  # nothing happens before the first line
    log_run(tmp_path, "cd", finish=False)
    assert images_in(path) == ["c", "d"]
    assert images_in(previous) == ["a", "b"]
    with pytest.raises(OptionError, match="not finished") as caught:
        RunLog(tmp_path, SETTINGS, resume=False)
    assert "--resume" in caught.value.fix
    log_run(tmp_path, "cde", resume=True)
    assert images_in(path) == ["c", "d", "e"]
    assert not previous.exists()


def test_lines_that_nobody_can_go_on_with(tmp_path):
    path = tmp_path / "boxes.jsonl"
    path.write_text('{"image": "a", "results": []}\n')
    with pytest.raises(OutputError, match=r"boxes\.run\.json is missing"):
        RunLog(tmp_path, SETTINGS, resume=True)
    with pytest.raises(OutputError, match="not of Backlit"):
        RunLog(tmp_path, SETTINGS, resume=False)
    path.unlink()
    log_run(tmp_path, "b")
    assert images_in(path) == ["b"]
    path.write_text('{"image": "b"}\nnonsense\n{"image": "c"}\n')
    with RunLog(tmp_path, SETTINGS, resume=True) as log, pytest.raises(OutputError, match="line 2"):
        log.skip(iter("bcd"))


def test_errors_of_the_first_run_count_in_the_second(tmp_path):
    with RunLog(tmp_path, SETTINGS, resume=False) as log:
        log.add({"image": "a", "error": "bad"})
        log.add({"image": "b", "results": []})
    with RunLog(tmp_path, SETTINGS, resume=True) as log:
        log.skip(iter("ab"))
        assert (log.done, log.failed) == (2, 1)


def test_an_empty_list_leaves_nothing(work, tmp_path):
    result = run("localize", work / "m.onnx", "-", "-o", tmp_path / "out", stdin="\n")
    assert result.exit_code == 2
    assert not list((tmp_path / "out").iterdir())


def test_lines_are_read_in_any_order(tmp_path):
    with RunLog(tmp_path, {"b": (1, 2)}, resume=True) as log:
        log.find()
        assert list(log.read(["a"])) == []
        for number in range(3):
            log.add({"image": f"ä{number}", "value": number})
        assert [one["value"] for one in log.read(["ä2", "other", "ä1"])] == [2, 1]
        log.add({"image": "last", "value": 3})  # after reading, still at the end
    with RunLog(tmp_path, {"b": [1, 2]}, resume=True) as log:
        log.find()
        assert log.done == 4
        assert "ä1" in log
        assert "other" not in log
        log.add({"image": "more", "value": 4})
        assert [one["value"] for one in log.read(["last", "more", "ä0"])] == [3, 4, 0]
    assert (tmp_path / "boxes.jsonl").read_text().count("\n") == 5


def test_a_torn_last_line_is_dropped_wherever_it_is_torn(tmp_path):
    path, two = tmp_path / "boxes.jsonl", {"image": "two", "value": [1, 2, 3]}
    with RunLog(tmp_path, SETTINGS, resume=False) as log:
        log.add({"image": "one"})
        log.add(two)
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        with RunLog(tmp_path, SETTINGS, resume=True) as log:
            log.find()
            assert log.done == content[:length].count(b"\n")
            for line in ({"image": "one"}, two):
                if line["image"] not in log:
                    log.add(line)
            log.end()
            assert [one["image"] for one in log.read(["two", "one"])] == ["two", "one"]
        assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"\x00\x00\n", b"[1]\n", b'{"name":"x"}\n', b"\xff\n"])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "boxes.jsonl"
    with RunLog(tmp_path, SETTINGS, resume=False) as log:
        log.add({"image": "one"})
    path.write_bytes(damaged := path.read_bytes() + line)
    with RunLog(tmp_path, SETTINGS, resume=True) as log, pytest.raises(OutputError, match="line 2"):
        log.find()
    assert path.read_bytes() == damaged


def test_a_run_with_other_settings_names_all_that_differ(tmp_path):
    with RunLog(tmp_path, {"a": 1, "b": [1], "gone": 0}, resume=False) as log:
        log.add({"image": "one"})
    with pytest.raises(OptionError) as caught:
        RunLog(tmp_path, {"a": 2, "b": [1], "new": "x"}, resume=True)
    told = 'with a 1, not 2; with new null, not "x"; with gone 0, not null.'
    assert told in caught.value.problem
