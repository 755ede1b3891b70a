"""The log of an evaluation: JSON lines that survive a kill."""

import json
import sys

import pytest
from backlit.runtime.errors import OutputError
from backlit.runtime.output.records import Log


def log_at(path, **changes):
    return Log(path, {"a": 1, "b": [1, 2], **changes})


def test_log_reads_in_any_order_and_takes_no_name_twice(tmp_path):
    path = tmp_path / "r.jsonl"
    with log_at(path) as log:
        for number in range(3):
            log.add({"image": f"ä{number}", "value": number})
        log.add({"image": "ä1", "value": 99})
        assert [one["value"] for one in log.read(["ä2", "other", "ä1"])] == [2, 1]
        log.add({"image": "last", "value": 3})  # after reading, still at the end
    with log_at(path, b=(1, 2)) as log:
        assert len(log) == 4
        assert "ä1" in log
        assert [one["value"] for one in log.read(["last", "ä0"])] == [3, 0]
    assert path.read_text().count("\n") == 5


def test_log_drops_a_torn_last_line_wherever_it_is_torn(tmp_path):
    path = tmp_path / "r.jsonl"
    with log_at(path) as log:
        log.add({"image": "one"})
        log.add({"image": "two", "value": [1, 2, 3]})
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        with log_at(path) as log:
            kept = content[:length].count(b"\n") - 1
            assert len(log) == max(kept, 0)
            log.add({"image": "two", "value": [1, 2, 3]})
            log.add({"image": "one"})
            assert [one["image"] for one in log.read(["one", "two"])] == ["one", "two"]
        assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize("line", [b"\x00\x00\n", b"[1]\n", b'{"name":"x"}\n', b"\xff\n"])
def test_log_says_which_line_is_damaged(tmp_path, line):
    path = tmp_path / "r.jsonl"
    with log_at(path) as log:
        log.add({"image": "one"})
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(OutputError, match=r"line 3 of .* is damaged") as error:
        log_at(path)
    assert "--resume" in error.value.fix


@pytest.mark.parametrize(
    "header", [b"[1,2]\n", b'{"a":1}\n', b'{"a":1,"b":[1,2],"c":null,"d":3}\n']
)
def test_log_of_something_else_is_refused(tmp_path, header):
    path = tmp_path / "r.jsonl"
    path.write_bytes(header)
    with pytest.raises(OutputError, match="made with other settings"):
        log_at(path)
    assert path.read_bytes() == header
    with Log(path, {"a": 1}, restart=True) as log:
        assert len(log) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_two_runs_cannot_write_one_log(tmp_path):
    path = tmp_path / "r.jsonl"
    with log_at(path) as log:
        log.add({"image": "one"})
        for restart in (False, True):
            with pytest.raises(OutputError, match="is being written by another run"):
                Log(path, {"a": 1, "b": [1, 2]}, restart)
        log.add({"image": "two"})
    with log_at(path) as log:
        assert len(log) == 2
