"""TensorRT without a GPU: what plans are kept by, and our code against the real classes."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avsl.engines import UserError, load_bundle
from avsl.engines.backends.plans import NoPlan, load_plan, wanted_plans
from avsl.engines.backends.tensorrt_library import TENSORRT
from avsl.engines.bundle import DRAWN

HERE = Path(__file__).parent
GPU = {"GPU": "NVIDIA A", "compute capability": "9.0", "multiprocessors": 132, "GPU memory": 10**11}


def test_each_ingredient_changed_alone_gives_another_plan(tmp_path: Path) -> None:
    bundle = load_bundle(DRAWN)
    (_, wanted) = wanted_plans(bundle, 1, TENSORRT, "11.4.0.106", GPU)
    assert wanted.facts.keys() == {
        *("graph", "TensorRT", "profile", "settings", *GPU, "OS", "machine")
    }
    others = [wanted_plans(bundle, 32, TENSORRT, "11.4.0.106", GPU)[1]]
    for key, value in wanted.facts.items():
        changed = copy.deepcopy(wanted)
        if isinstance(value, dict):
            inner = next(iter(value))
            changed.facts[key][inner] = "another"
        else:
            changed.facts[key] = f"not {value}"
        others.append(changed)
    files = {one.file(tmp_path, ".plan") for one in [wanted, *others]}
    assert len(files) == 1 + len(others) == 2 + len(wanted.facts)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("TensorRT", "10.16.1.11", "TensorRT: 10.16.1.11 -> 11.4.0.106"),
        ("GPU", "NVIDIA B", "GPU: NVIDIA B -> NVIDIA A"),
        ("compute capability", "8.9", "compute capability: 8.9 -> 9.0"),
        ("graph", "0" * 64, "graph changed"),
        ("settings", {}, "settings changed"),
        ("OS", "Other", "OS: Other -> "),
    ],
)
def test_what_changed_is_named(tmp_path: Path, key: str, value: object, said: str) -> None:
    import json

    (_, wanted) = wanted_plans(load_bundle(DRAWN), 1, TENSORRT, "11.4.0.106", GPU)
    old = copy.deepcopy(wanted)
    old.facts[key] = value
    old.file(tmp_path, ".json").write_text(json.dumps({"facts": old.facts}))
    with pytest.raises(NoPlan) as caught:
        load_plan(wanted, tmp_path)
    assert f"out of date ({said}" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"facts": 3}'])
def test_a_sidecar_that_is_none(tmp_path: Path, text: str) -> None:
    (_, wanted) = wanted_plans(load_bundle(DRAWN), 1, TENSORRT, "11.4.0.106", GPU)
    wanted.file(tmp_path, ".json").write_text(text)
    wanted.file(tmp_path, ".plan").write_bytes(b"plan")
    with pytest.raises(NoPlan) as caught:
        load_plan(wanted, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("library", ["10.16.1.11", "11.4.0.106", "rtx"])
def test_the_whole_way_of_a_plan(library: str, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """Built by the real builder, kept, loaded and run by doubles of the real classes, in a process
    of its own; see tensorrt_here.py."""
    pytest.importorskip("torch", reason="TensorRT's buffers are torch's")
    pytest.importorskip("tensorrt_rtx", reason="what builds plans: pip install tensorrt-rtx")
    from tensorrt_doubles import Missing, fetch

    where, cases = "rtx", "tensorrt_rtx_cases.py"
    if library != "rtx":
        # What is fetched is kept, where pytest keeps anything (not with -p no:cacheprovider).
        cache = getattr(pytestconfig, "cache", None)
        folder = cache.mkdir(f"tensorrt-{library}") if cache else tmp_path
        where, cases = str(folder), "tensorrt_timed_cases.py"
        try:
            fetch(library, folder)
        except Missing as why:
            pytest.skip(f"TensorRT's bindings: {why}")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    path = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [*command, "-p", "tensorrt_here", HERE / "tensorrt_cases.py", HERE / cases],
        env={**os.environ, "TENSORRT_DOUBLES": where, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=600,
        cwd=HERE.parents[1],
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout


def test_without_the_library_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avsl.train.build import build

    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(UserError) as caught:
        build(DRAWN, tmp_path / "out", None, None, "SM89")
    assert str(caught.value) == "tensorrt-rtx: not installed; pip install 'avsl[tensorrt-rtx]'"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        (DRAWN, (None, "unbiased", None, None), "an engine; --stage, --combine and --out are for"),
        (DRAWN, (None, None, "A", "SM89"), "an engine; --stage, --combine and --out are for"),
        (DRAWN, (Path("out"), None, None, None), "an engine; --stage, --combine and --out are for"),
        (HERE, (None, None, None, "SM89"), "no engine (model.json); --for takes one"),
    ],
)
def test_options_of_build_that_do_not_go_together(source, options, said) -> None:  # type: ignore[no-untyped-def]
    from avsl.train.build import build

    with pytest.raises(UserError) as caught:
        build(source, *options)
    assert said in str(caught.value)


def test_a_target_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="what builds plans: pip install tensorrt-rtx")
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "avsl.train.cli", "build", str(DRAWN), "--for", "SM89"]
    for place, said in (("file", "can't be written"), ("file/in", "can't be written")):
        done = subprocess.run(
            [*command, "--out", str(tmp_path / place)], capture_output=True, text=True
        )
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("error: ")
        assert said in line
    done = subprocess.run([*command[:-1], "SM90"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "tensorrt-rtx: runs on SM75, SM80, SM86, SM89, SM120, SM121, not on" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
