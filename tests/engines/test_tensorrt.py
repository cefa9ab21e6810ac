"""TensorRT without a GPU: what plans are kept by, and our code against the real classes."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avsl.engines import load_bundle
from avsl.engines.backends.plans import NoPlan, load_plan, wanted_plans
from avsl.engines.bundle import DRAWN

HERE = Path(__file__).parent
GPU = {"GPU": "NVIDIA A", "compute capability": "9.0", "multiprocessors": 132, "GPU memory": 10**11}


def test_each_ingredient_changed_alone_gives_another_plan(tmp_path: Path) -> None:
    bundle = load_bundle(DRAWN)
    (_, wanted) = wanted_plans(bundle, 1, "11.4.0.106", GPU)
    assert wanted.facts.keys() == {
        *("graph", "TensorRT", "profile", "settings", *GPU, "OS", "machine")
    }
    others = [wanted_plans(bundle, 32, "11.4.0.106", GPU)[1]]
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

    (_, wanted) = wanted_plans(load_bundle(DRAWN), 1, "11.4.0.106", GPU)
    old = copy.deepcopy(wanted)
    old.facts[key] = value
    old.file(tmp_path, ".json").write_text(json.dumps({"facts": old.facts}))
    with pytest.raises(NoPlan) as caught:
        load_plan(wanted, tmp_path)
    assert f"out of date ({said}" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"facts": 3}'])
def test_a_sidecar_that_is_none(tmp_path: Path, text: str) -> None:
    (_, wanted) = wanted_plans(load_bundle(DRAWN), 1, "11.4.0.106", GPU)
    wanted.file(tmp_path, ".json").write_text(text)
    wanted.file(tmp_path, ".plan").write_bytes(b"plan")
    with pytest.raises(NoPlan) as caught:
        load_plan(wanted, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["10.16.1.11", "11.4.0.106"])
def test_the_whole_way_against_the_real_classes(
    version: str, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    """Builder, cache and runner, in a process of its own; see tensorrt_cases.py."""
    pytest.importorskip("torch", reason="TensorRT's buffers are torch's")
    from tensorrt_doubles import Missing, fetch

    # What is fetched is kept, where pytest keeps anything (not with -p no:cacheprovider).
    cache = getattr(pytestconfig, "cache", None)
    folder = cache.mkdir(f"tensorrt-{version}") if cache else tmp_path
    try:
        fetch(version, folder)
    except Missing as why:
        pytest.skip(f"TensorRT's bindings: {why}")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, HERE / "tensorrt_cases.py"],
        env={**os.environ, "TENSORRT_DOUBLES": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
        cwd=HERE.parents[1],
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout
