"""Bad input: one line that names the file and the fault, and nothing left under the asked name."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import ToneEngine, faults, frame_times, make_video, tone

from avsl.engines import UserError
from avsl.realtime.films import annotate


def avsl(*arguments: str, cwd: Path, **more) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avsl.realtime.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, **more)


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def sound_only(path: Path, cover: bool = False) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48_000, layout="mono")
        samples = tone(440)(np.arange(48_000) / 48_000).astype(np.float32)[None]
        block = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        block.sample_rate, block.pts = 48_000, 0
        out.mux(stream.encode(block))
        out.mux(stream.encode(None))
    return path


def unknown_codec(path: Path) -> Path:
    data = make_video(path).read_bytes()
    path.write_bytes(data.replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    return path


def no_pictures(path: Path) -> Path:
    """A header, and not one packet of video."""
    whole = make_video(path.with_name("whole.mkv"), codec="ffv1", sound_codec="flac")
    with av.open(str(whole)) as one, av.open(str(path), "w") as two:
        streams = {s.index: two.add_stream_from_template(s) for s in one.streams}
        for packet in one.demux(audio=0):
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                two.mux(packet)
    whole.unlink()
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# Of one seed: some random bytes look like the start of an MP3.
NOISE = np.random.default_rng(1).bytes(5000)
BAD = {
    "moov missing": (lambda p: cut(make_video(p / "film.mp4"), 0.8), "can't be read"),
    "empty": (lambda p: written(p / "film.mp4", b""), "it is empty"),
    "text": (lambda p: written(p / "film.mp4", b"Dear diary,\n" * 99), "not a video"),
    "noise": (lambda p: written(p / "film.avi", NOISE), "not a video"),
    "sound only": (lambda p: sound_only(p / "song.m4a"), "only sound"),
    "no pictures": (lambda p: no_pictures(p / "film.mkv"), "no picture in it"),
    "unknown codec": (lambda p: unknown_codec(p / "film.mp4"), "codec"),
    "missing": (lambda p: p / "film.mp4", "no such file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    make, said = BAD[name]
    source = make(tmp_path)
    before = set(tmp_path.iterdir())
    done = avsl(source.name, "-o", "out.mp4", "--events", "out.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    (fault,) = faults(done.stderr)
    assert fault.startswith(f"error: {source.name}: ")
    assert said in fault
    assert set(tmp_path.iterdir()) == before


def test_a_folder_goes_on_past_a_bad_file(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    make_video(films / "a.mp4")
    written(films / "b.mp4", b"nonsense")
    make_video(films / "c.avi", codec="mpeg4", sound_codec="mp3")
    done = avsl("films", "-o", "out/", cwd=tmp_path)
    assert done.returncode == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.mp4", "c.mp4"}
    assert "1 of 3 failed: films/b.mp4" in done.stderr
    (tmp_path / "none").mkdir()
    empty = avsl("none", "-o", "out2/", cwd=tmp_path)
    assert (empty.returncode, len(faults(empty.stderr))) == (2, 1)
    assert not (tmp_path / "out2").exists()


@pytest.mark.parametrize("target", ["nowhere/out.mp4", "film.mp4/out.mp4", "/proc/out.mp4"])
def test_places_that_can_t_be_written(tmp_path: Path, target: str) -> None:
    make_video(tmp_path / "film.mp4")
    done = avsl("film.mp4", "-o", target, cwd=tmp_path)
    assert done.returncode == 2
    (fault,) = faults(done.stderr)
    assert "can't be written" in fault
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the same writes fail."""
    make_video(tmp_path / "film.mp4", seconds=8.0, size=(640, 480))

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = avsl("film.mp4", "-o", "out.mp4", cwd=tmp_path, preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    (fault,) = faults(done.stderr)
    assert fault.startswith("error: out.mp4: can't be written")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_ctrl_c_leaves_a_playable_file(tmp_path: Path) -> None:
    options = {"preset": "ultrafast"}
    make_video(tmp_path / "film.mp4", seconds=60.0, size=(640, 360), options=options)
    command = [sys.executable, "-m", "avsl.realtime.cli", "film.mp4", "-o", "out.mp4"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 2000 for path in tmp_path.glob(".out.*.part.mp4")):
        assert time.monotonic() < deadline
        assert process.poll() is None, "it was over before it could be stopped"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "out.partial.mp4" in said
    assert {path.name for path in tmp_path.iterdir()} == {"film.mp4", "out.partial.mp4"}
    assert 0 < len(frame_times(tmp_path / "out.partial.mp4")) < 1500


def test_a_film_that_breaks_off_is_annotated_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "film.mkv", seconds=6.0, options={"g": "10"})
    count = len(frame_times(cut(whole, 0.6)))
    report = annotate(whole, tmp_path / "out.mp4", ToneEngine())
    assert count - 5 <= report.frames <= count
    assert len(frame_times(tmp_path / "out.mp4")) == report.frames


def test_damage_in_the_middle_is_skipped_and_said(tmp_path: Path) -> None:
    source = make_video(tmp_path / "film.avi", codec="mjpeg", pixels="yuvj420p", waves=())
    data = bytearray(source.read_bytes())
    at = [i for i in range(len(data) - 3) if data[i : i + 3] == b"\xff\xd8\xff"][10]
    data[at : at + 200] = bytes(200)
    source.write_bytes(bytes(data))
    report = annotate(source, tmp_path / "out.mp4", ToneEngine())
    assert report.frames >= 23
    if report.frames < 25:
        assert any("damaged" in note for note in report.notes)


SEEDS = 28
CLIPS = {
    "a.mp4": {},
    "b.mkv": {"codec": "ffv1", "sound_codec": "flac"},
    "c.webm": {
        "codec": "libvpx-vp9",
        "sound_codec": "libopus",
        "options": {"deadline": "realtime", "cpu-used": "8"},
    },
    "d.avi": {"codec": "mpeg4", "sound_codec": "mp3"},
    "e.mov": {"codec": "mjpeg", "pixels": "yuvj420p", "sound_codec": "pcm_s16le"},
    "f.ts": {"codec": "mpeg2video", "sound_codec": "mp2"},
    "g.wmv": {"codec": "wmv2", "sound_codec": "mp3", "sound_rate": 44_100},
    "h.flv": {"codec": "flv1", "sound_codec": "mp3", "sound_rate": 44_100},
    "i.vob": {"codec": "mpeg2video", "sound_codec": "mp2"},
    "j.h264": {"waves": (), "options": {"bf": "2", "crf": "1", "g": "4"}},
    "k.avi": {"sound_codec": "pcm_u8", "options": {"bf": "2"}, "waves": (tone(440), tone(880))},
    "l.mov": {
        "codec": "png",
        "pixels": "rgb24",
        "sound_codec": "pcm_f32le",
        "waves": (tone(440), tone(880)),
    },
}


@pytest.mark.parametrize("name", CLIPS)
def test_mutated_files_neither_hang_nor_crash(tmp_path: Path, name: str) -> None:
    """336 files in all: flipped bytes, cuts, pieces missing."""
    clip = make_video(tmp_path / name, size=(64, 48), seconds=0.4, **CLIPS[name])
    first = 1000 * list(CLIPS).index(name)
    script = Path(__file__).with_name("fuzz.py")
    ways = [str(script.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(ways)}
    command = [sys.executable, str(script), str(clip), str(first), str(first + SEEDS)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    last = lines[-1] if lines else ""
    assert done.returncode == 0, f"{last}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr
    assert "LEFT BEHIND" not in done.stdout
    assert "TWO LINES" not in done.stdout
    outcomes = [line.split()[1] for line in lines]
    assert len(outcomes) == SEEDS
    assert "read" in outcomes, "mutations so hard that nothing is read would prove nothing"


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Four thousand frames: what is resident at the end is what was resident at a quarter."""
    make_video(tmp_path / "film.mp4", seconds=160.0, size=(96, 64))
    code = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from helpers import ToneEngine
from avsl.realtime.films import annotate
pages = {}
def progress(done):
    if done.frames in (1000, 3990):
        pages[done.frames] = int(Path('/proc/self/statm').read_text().split()[1])
annotate(Path('film.mp4'), Path('out.mp4'), ToneEngine(), progress=progress)
print((pages[3990] - pages[1000]) * 4096)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("resident memory is read from /proc")
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8e6


def test_the_file_path_imports_no_torch_no_cv2_no_sounddevice(tmp_path: Path) -> None:
    make_video(tmp_path / "film.mp4")
    code = (
        "import sys; sys.argv = ['avsl-live', 'film.mp4', '-o', 'out.mp4']\n"
        "from avsl.realtime.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print([m for m in ('torch', 'cv2', 'sounddevice') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("[]")


def test_errors_name_one_file_and_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        annotate(tmp_path, tmp_path / "out.mp4", ToneEngine())
    assert "a folder, not a video file" in str(caught.value)
