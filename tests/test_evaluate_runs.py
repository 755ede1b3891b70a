"""``backlit evaluate``: runs that are stopped, go on, meet bad images or bad options."""

import json
import random
import subprocess
import sys
import time

import pytest
from backlit.runtime.boxes.recipes import RECIPES
from backlit.runtime.cli.evaluate import evaluate as command
from backlit.runtime.drawing import html
from backlit.runtime.errors import OutputError
from backlit.runtime.evaluation.datasets import FORMATS
from PIL import Image
from support.labelled import (
    RECIPE,
    evaluate,
    result_of,
    table_of,
    write_classifier,
    write_wsolevaluation,
)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A classifier, a data set, and the results of a run."""
    folder = tmp_path_factory.mktemp("runs")
    write_classifier(folder / "m.onnx")
    write_wsolevaluation(folder / "wsol", 12)
    options = ("--baselines", "none", "--gallery", 0)
    result_of(folder / "m.onnx", folder / "wsol", "-o", folder / "whole", *options)
    return folder


def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(work, tmp_path):
    """SIGKILL at random moments, torn lines and all; then the files are those of one run."""
    write_wsolevaluation(tmp_path / "data", 40, seed=5)
    command = [sys.executable, "-m", "backlit.runtime", "evaluate", str(work / "m.onnx")]
    command += [str(tmp_path / "data"), "--baselines", "centred", "--gallery", "3", "-o"]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    subprocess.run([*command, str(unbroken)], check=True, capture_output=True)
    log, rng, counts = broken / "records.jsonl", random.Random(0), []
    for least in (1, 20_000):
        process = subprocess.Popen(
            [*command, str(broken), "--resume"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        grown = (log.stat().st_size if log.exists() else 0) + least
        while process.poll() is None and not (log.exists() and log.stat().st_size >= grown):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.wait()
        counts.append(log.read_bytes().count(b"\n"))
    assert 1 <= counts[0] < 40  # the first kill came in the middle of the work
    with log.open("r+b") as file:  # what a kill within a write leaves
        file.seek(0, 2)
        file.write(b'{"image":"val/03')
    refused = subprocess.run([*command, str(broken)], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "records.jsonl is of a run that was not finished" in refused.stderr
    assert "go on with it by --resume" in refused.stderr
    done = subprocess.run([*command, str(broken), "--resume"], check=True, capture_output=True)
    metrics_json = (unbroken / "metrics.json").read_bytes()
    assert (broken / "metrics.json").read_bytes() == metrics_json
    assert json.loads(done.stdout) == json.loads(metrics_json)
    assert (broken / "images.csv").read_bytes() == (unbroken / "images.csv").read_bytes()
    names = [json.loads(line)["image"] for line in log.read_text().splitlines()]
    assert len(names) == 40
    assert sorted(names) == sorted(set(names))


def test_more_images_go_on_from_fewer(work, tmp_path):
    fast = ("--baselines", "none", "--gallery", 0)
    few = result_of(work / "m.onnx", work / "wsol", "-o", tmp_path, "--limit", 5, *fast)
    assert few["images"] == 5
    more = result_of(work / "m.onnx", work / "wsol", "-o", tmp_path, "--resume", *fast)
    once = result_of(work / "m.onnx", work / "wsol", "-o", tmp_path / "once", *fast)
    assert more == once
    assert (
        result_of(work / "m.onnx", work / "wsol", "-o", tmp_path, "--resume", "--limit", 5, *fast)
        == few
    )


def test_other_settings_do_not_go_on(work):
    before = (work / "whole" / "records.jsonl").read_bytes()
    options = ("--resume", "--baselines", "none", "--recipe", "paper")
    done = evaluate(work / "m.onnx", work / "wsol", "-o", work / "whole", *options)
    assert done.exit_code == 2
    assert f'was begun with recipe "{RECIPE}", not "paper"; with crops 2, not 10' in done.stderr
    assert "give -o another folder" in done.stderr
    assert done.stdout == ""
    assert (work / "whole" / "records.jsonl").read_bytes() == before


def test_changed_labels_do_not_go_on_and_a_new_run_drops_them(work, tmp_path):
    fast = ("--baselines", "none", "--gallery", 0, "-o", tmp_path / "out")
    data = tmp_path / "data"
    write_wsolevaluation(data, 3)
    first = result_of(work / "m.onnx", data, *fast)
    (data / "localization.txt").write_text(
        "".join(f"val/{number:03d}.png,0,0,3,3\n" for number in range(3))
    )
    done = evaluate(work / "m.onnx", data, *fast, "--resume")
    assert done.exit_code == 2
    assert "examples_sha256" in done.stderr
    second = result_of(work / "m.onnx", data, *fast)
    assert second["images"] == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "records.jsonl", "records.run.json", "metrics.json", "images.csv", "report.html",
    }  # fmt: skip
    key = "gt_known_mean"
    assert second["metrics"][key][RECIPE]["value"] < first["metrics"][key][RECIPE]["value"]


def test_records_of_a_finished_run_stay_until_the_next_is_finished(work, tmp_path, monkeypatch):
    def full(_):
        raise OutputError("no space is left.", "make room.")

    fast = ("--baselines", "none", "--gallery", 0, "-o", tmp_path / "out")
    data = tmp_path / "data"
    write_wsolevaluation(data, 3)
    result_of(work / "m.onnx", data, *fast)
    kept = (tmp_path / "out" / "records.jsonl").read_bytes()
    monkeypatch.setattr(html, "html", full)  # so that the run cannot end
    assert evaluate(work / "m.onnx", data, *fast).exit_code == 1
    assert (tmp_path / "out" / "records.previous.jsonl").read_bytes() == kept
    done = evaluate(work / "m.onnx", data, *fast)
    assert done.exit_code == 2
    assert "not finished" in done.stderr


# A bad image


def test_a_bad_image_is_counted_and_stops_nothing(work, tmp_path):
    data = tmp_path / "data"
    write_wsolevaluation(data, 6)
    (data / "val" / "002.png").write_bytes(b"\x89PNG damaged")
    options = ("--baselines", "centred", "--gallery", 3, "-o", tmp_path / "out")
    done = evaluate(work / "m.onnx", data, *options)
    assert done.exit_code == 1
    assert "002.png is not an image" in done.stderr
    assert "5 of 6 images" in done.stderr
    found = json.loads(done.stdout)
    assert found["images"] == 5
    assert [one["image"] for one in found["errors"]] == ["val/002.png"]
    rows = table_of(tmp_path / "out")
    assert len(rows) == 6
    assert [row["image"] for row in rows if row["error"]] == ["val/002.png"]
    assert "002.png" in (tmp_path / "out" / "report.html").read_text()
    again = evaluate(work / "m.onnx", data, *options, "--resume")
    assert json.loads(again.stdout) == found
    Image.new("RGB", (50, 48), "red").save(data / "val" / "002.png")
    assert result_of(work / "m.onnx", data, *options, "--resume")["images"] == 6


def test_all_images_bad(work, tmp_path):
    write_wsolevaluation(tmp_path / "data", 2)
    for path in (tmp_path / "data" / "val").iterdir():
        path.write_bytes(b"damaged")
    got = result_of(work / "m.onnx", tmp_path / "data", "-o", tmp_path / "out", code=1)
    assert got["images"] == 0
    assert got["metrics"] == {}
    assert "No image has a true box" in (tmp_path / "out" / "report.html").read_text()


# Exit codes


def test_usage_errors(work, tmp_path):
    file, data, out = work / "m.onnx", work / "wsol", tmp_path / "o"
    for args in (
        (file, data),
        (file, data, "-o", out, "--baselines", "some"),
        (file, data, "-o", out, "--limit", 0),
        (file, data, "-o", out, "--recipe", "magic"),
        (file, data, "-o", out, "--dataset-format", "csv"),
    ):
        assert evaluate(*args).exit_code == 2
    for args in ((tmp_path / "none.onnx", data, "-o", out), (file, tmp_path / "none", "-o", out)):
        done = evaluate(*args)
        assert done.exit_code == 1
        assert "fix:" in done.stderr
    (tmp_path / "taken").write_text("")
    assert evaluate(file, data, "-o", tmp_path / "taken").exit_code == 1


def test_the_formats_are_those_that_are_read():
    option = next(one for one in command.params if one.name == "form")
    assert list(option.type.choices) == list(FORMATS)


def test_no_recipe_has_the_name_of_the_centred_box():
    assert "centred" not in RECIPES
