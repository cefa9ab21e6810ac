"""The examples as a person runs them, also with nothing, or with something else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import frame_times, make_video

EXAMPLES = Path(__file__).parents[2] / "demos" / "examples"
FIRST = '{"schema":"avsl-events/1","source":"f.mp4","engine":{"name":"x","version":"1"}}\n'
EVENTS = "".join(
    f'{{"time":{time},"level_db":-20.0,"state":"{state}","score":0.9,"peaks":{peaks}}}\n'
    for time, state, peaks in (
        (1.5, "silent", "[]"),
        (2.5, "sounding", "[[0.25,0.5,0.9]]"),
        (3.5, "silent", "[]"),
    )
)


def run(name: str, *arguments: str, given: bytes | str = b"", shell: str = "", **options: object):
    given = given.encode() if isinstance(given, str) else given
    command = f'set -o pipefail; exec "$0" "$@" {shell}'
    program = ["bash", "-c", command, sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(program, input=given, capture_output=True, timeout=120, **options)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_events_are_followed() -> None:
    code, said, fault = run("follow_events", given=FIRST + EVENTS)
    assert (code, fault) == (0, "")
    assert [line.split() for line in said.splitlines()] == [
        ["1.50", "s", "silent"],
        ["2.50", "s", "sounding", "25", "%", "from", "the", "left"],
        ["3.50", "s", "silent"],
    ]


def test_what_has_a_name_is_called_by_it() -> None:
    named = '{"time":1,"state":"sounding","peaks":[[0.25,0.5,0.9],[0.5,0.5,0.6]],"kinds":%s}\n'
    code, said, fault = run("follow_events", given=FIRST + named % '["dog",""]')
    assert (code, fault) == (0, "")
    assert said.endswith("sounding  dog 25 % from the left, 50 % from the left\n")


@pytest.mark.parametrize(
    "given",
    [
        b"", b"hello\n", b"[]\n", b"{}\n", b"3\n", b"null\n", b"\xff\xfe\x00", b"[" * 100_000,
        FIRST + "3\n", FIRST + "{}\n", FIRST + '{"time":1,"state":"\x1b[2J","peaks":[]}\n',
        FIRST + '{"time":1,"state":["silent"],"peaks":[]}\n',
        FIRST + '{"time":1,"state":"silent","peaks":[1]}\n',
        FIRST + '{"time":1,"state":"silent","peaks":[["a",1,1]]}\n',
        FIRST + '{"time":1,"state":"silent","peaks":[[1,1,1]],"kinds":["a","b"]}\n',
        FIRST + '{"time":1,"state":"silent","peaks":[[1,1,1]],"kinds":["\\u001b[2J"]}\n',
    ],
)  # fmt: skip
def test_what_is_no_events_is_one_line(given: bytes | str) -> None:
    said = "error: stdin: these are not avsl-events/1 events; start me behind avsl-live\n"
    assert run("follow_events", given=given) == (2, "", said)


def test_closed_pipes_are_one_line() -> None:
    code, _, said = run("follow_events", shell="<&-")
    assert (code, len(said.splitlines())) == (2, 1)
    many = FIRST + EVENTS * 20_000
    code, said, fault = run("follow_events", given=many, shell="| head -n1")
    assert (code, fault) == (2, "error: stdout: whoever read it has gone\n")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "error: two folders are needed: annotate_folder.py FOLDER OUT_FOLDER"),
        (["films"], "error: two folders are needed: annotate_folder.py FOLDER OUT_FOLDER"),
        (["nowhere", "out"], "error: nowhere: no such folder"),
        (["empty", "out"], "error: empty: no videos in this folder"),
        (["films", "films"], "error: films: is where the videos are; name another folder to "),
        (["films", "films/a.mp4"], "error: films/a.mp4: can't be made; File exists"),
    ],
)
def test_a_folder_that_cannot_be_annotated_is_one_line(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "films" / "a.mp4").write_text("dear")
    code, out, fault = run("annotate_folder", *arguments, cwd=tmp_path)
    assert (code, out, len(fault.splitlines())) == (2, "", 1)
    assert fault.startswith(said)
    assert (tmp_path / "films" / "a.mp4").read_text() == "dear"
    assert not (tmp_path / "out").exists()


def test_a_folder_is_annotated_and_what_is_no_film_left_out(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    make_video(tmp_path / "films" / "a.mp4", seconds=0.4)
    (tmp_path / "films" / "b\x1b[2J.mp4").write_text("dear")
    code, _, fault = run("annotate_folder", "films", "out", cwd=tmp_path)
    assert code == 0, fault
    assert "\x1b" not in fault and "left out: films/b?[2J.mp4: " in fault
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jsonl", "a.mp4"]
    assert len(frame_times(tmp_path / "out" / "a.mp4")) == 10
