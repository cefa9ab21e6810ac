"""How a training begins: what a dry run looks at, what a refused fit leaves, what --resume says."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

from accelerate.state import AcceleratorState  # noqa: E402

import avsl.train.cli as cli  # noqa: E402
from avsl.demos.scenes.cutouts import PREPARED  # noqa: E402
from avsl.train.data.dataset import write_scenes  # noqa: E402
from avsl.train.recipe import Recipe, to_toml  # noqa: E402

SMALL = Recipe(
    name="small",
    size=32,
    width=4,
    embedding=8,
    labelled=4,
    unlabelled=4,
    validation=2,
    labelled_batch=2,
    unlabelled_batch=2,
    warm_up_steps=2,
    steps=2,
    voices=2,
    held_out=2,
    workers=0,
    precision="fp32",
)


@pytest.fixture(autouse=True)
def fresh_accelerator() -> None:
    """Accelerate keeps the precision that it was first asked for in this process."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def avsl_train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The program in this process: its exit code, what it prints and its errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["avsl-train", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips, of which eight have boxes; two of these are to be tested on."""
    folder = tmp_path_factory.mktemp("field")
    write_scenes(folder / "clips", 12, 5, kind="one", height=96)
    entries = json.loads((folder / "clips" / "boxes.json").read_text())
    (folder / "clips" / "boxes.json").write_text(json.dumps(entries[:8]))
    write_scenes(folder / "test", 2, 5, kind="one", height=96)
    return folder


def toml(recipe: Recipe, folder: Path) -> Path:
    path = folder / "mine.toml"
    path.write_text(to_toml(recipe))
    return path


CASES = [
    ({"data": "nope"}, "no such folder of clips"),
    ({"test": "nope"}, "no such folder of clips"),
    ({"labelled": 7}, "8 clips have boxes, the recipe wants 7 labelled and 2 for validation"),
    ({"labelled": 7}, "set labelled or validation lower"),
    ({"start": "nope"}, "nope"),
    ({"cutouts": "nope"}, "nope"),
]


@pytest.mark.parametrize(("changes", "says"), CASES)
@pytest.mark.parametrize("dry", [True, False])
def test_a_dry_run_refuses_what_a_fit_refuses(
    dry: bool, changes: dict[str, object], says: str, clips: Path, tmp_path: Path, avsl_train
) -> None:
    recipe = toml(replace(SMALL, **{"data": str(clips / "clips"), **changes}), tmp_path)
    run = tmp_path / "run"
    code, out, err = avsl_train("fit", recipe, "--run", run, *(["--dry-run"] if dry else []))
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert not out
    assert not run.exists()


def test_a_dry_run_counts_what_there_is(clips: Path, tmp_path: Path, avsl_train) -> None:
    wanted = replace(SMALL, data=str(clips / "clips"), test=str(clips / "test"), unlabelled=99)
    recipe, run = toml(wanted, tmp_path), tmp_path / "run"
    before = sorted(tmp_path.rglob("*"))
    code, dry, _ = avsl_train("fit", recipe, "--run", run, "--dry-run")
    assert code == 0
    # 12 clips and 2 to be tested on, 2 of the 12 among them; 6 of the rest have boxes.
    assert "clips: 14, " in dry
    assert "4 labelled, 4 unlabelled, 2 for validation" in dry
    assert "2 clips left out of training: they are among the test clips" in dry
    assert "4 unlabelled clips are there; the recipe takes up to 99" in dry
    assert "not looked at: whether each picture and sound can be read" in dry
    assert sorted(tmp_path.rglob("*")) == before
    code, fitted, _ = avsl_train("fit", recipe, "--run", run)
    assert code == 0
    shared = [line for line in fitted.splitlines() if line in dry.splitlines()]
    assert len(shared) == 2, "a fit says the same of its clips"
    assert len(np.load(run / "clips" / "known.npy")) + 2 == 14
    code, again, _ = avsl_train("fit", recipe, "--run", run, "--resume", "--dry-run")
    assert code == 0
    assert "for what is left after step 4" in again
    assert "not looked at" not in again, "they are packed"
    modes = {stat.S_IMODE(p.stat().st_mode) for p in run.rglob("*") if p.is_file()}
    mask = os.umask(0)
    os.umask(mask)
    assert modes == {0o666 & ~mask}


def test_a_dry_run_with_a_bad_clip(clips: Path, tmp_path: Path, avsl_train) -> None:
    folder = tmp_path / "clips"
    for part in ("frames", "audio"):
        (folder / part).mkdir(parents=True)
        for path in (clips / "clips" / part).iterdir():
            (folder / part / path.name).symlink_to(path)
    (folder / "boxes.json").write_bytes((clips / "clips" / "boxes.json").read_bytes())
    sorted((folder / "audio").iterdir())[-1].unlink()
    recipe = toml(replace(SMALL, data=str(folder)), tmp_path)
    dry = ("fit", recipe, "--run", tmp_path / "run", "--dry-run")
    code, _, err = avsl_train(*dry)
    assert code == 2
    assert "1 of 12 clips can't be used: s5_000011 has no sound (--skip-bad leaves" in err
    code, out, _ = avsl_train(*dry, "--skip-bad")
    assert code == 0
    assert "clips: 11, " in out


def prepared(folder: Path) -> Path:
    """What `avsl-train prepare` makes, very small: two kinds of coloured squares, that hum."""
    import av

    from avsl.train.data.dataset import write_wav

    t = np.arange(16_000) / 16_000
    for split in ("train", "validation", "test"):
        for kind, colour in (("red", 0), ("green", 1)):
            place = folder / split / kind
            place.mkdir(parents=True)
            rgba = np.zeros((64, 64, 4), np.uint8)
            rgba[16:48, 16:48, colour] = rgba[16:48, 16:48, 3] = 255
            codec = av.CodecContext.create("png", "w")
            codec.width = codec.height = 64
            codec.pix_fmt, codec.framerate = "rgba", 25
            frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
            (place / "a.png").write_bytes(
                b"".join(map(bytes, [*codec.encode(frame), *codec.encode(None)]))
            )
            write_wav(place / "a.wav", 0.5 * np.sin(2000 * (1 + colour) * t), 16_000)
    (folder / PREPARED).write_text("{}")
    return folder


def test_the_recipe_for_photographs_has_a_dry_run(tmp_path: Path, avsl_train) -> None:
    """Its first stage tells kinds apart, which is timed on scenes with kinds."""
    small = ["size=32", "width=4", "labelled_batch=4"]
    settings = [f"cutouts={prepared(tmp_path / 'prepared')}", *small]
    words = [word for setting in settings for word in ("--set", setting)]
    run = tmp_path / "run"
    code, out, err = avsl_train(
        "fit",
        Path(cli.__file__).parent / "recipes/photographs.toml",
        "--run",
        run,
        "--dry-run",
        *words,
    )
    assert code == 0, err
    assert "kinds: 4000 steps" in out
    assert "kinds of things: 2 that sound, " in out
    assert "time: about " in out
    assert not run.exists()


def test_a_refused_fit_poisons_nothing(clips: Path, tmp_path: Path, avsl_train) -> None:
    """Refused after it has packed, too: a loss of NaN, a run to start from that is none."""
    run, data = tmp_path / "run", str(clips / "clips")
    few = toml(replace(SMALL, data=data), tmp_path)
    assert avsl_train("fit", few, "--run", run, "--set", "labelled=7")[0] == 2
    run.mkdir()
    (run / "recipe.toml").write_text(to_toml(replace(SMALL, labelled=7, data=data)))
    code, _, err = avsl_train("fit", few, "--run", run, "--resume")
    assert code == 2
    assert "nothing is trained in it yet; leave out --resume to start anew" in err
    (run / "clips").mkdir()
    (run / "clips" / "pack.json").write_text("of another size")
    code, _, err = avsl_train("fit", few, "--run", run)
    assert code == 0, err
    code, _, err = avsl_train("fit", few, "--run", run)
    assert code == 2
    assert "holds a training already; --resume goes on with it" in err


def test_somebody_s_own_clips_are_not_taken_for_a_pack(
    clips: Path, tmp_path: Path, avsl_train
) -> None:
    own = tmp_path / "clips" / "frames"
    own.mkdir(parents=True)
    recipe = toml(replace(SMALL, data=str(clips / "clips")), tmp_path)
    for words in ([], ["--dry-run"]):
        code, _, err = avsl_train("fit", recipe, "--run", tmp_path, *words)
        assert code == 2
        assert f"{tmp_path / 'clips'}: is in the way; name another run folder" in err
        assert own.is_dir()


def test_resume_says_what_differs(clips: Path, tmp_path: Path, avsl_train) -> None:
    run = tmp_path / "run"
    recipe = toml(replace(SMALL, data=str(clips / "clips")), tmp_path)
    assert avsl_train("fit", recipe, "--run", run, "--set", "lr=1e-3")[0] == 0
    code, _, err = avsl_train("fit", recipe, "--run", run, "--resume")
    assert code == 2
    assert "was trained with lr = 0.001, not 0.002; " in err
    advice = f"avsl-train fit {run / 'recipe.toml'} --run {run} --resume goes on"
    assert advice in err
    assert avsl_train(*advice.split()[1:-2])[0] == 0
    # As an older version wrote it, which had no such setting.
    text = (run / "recipe.toml").read_text()
    older = "".join(line for line in text.splitlines(True) if not line.startswith("start_with"))
    (run / "recipe.toml").write_text("# mine\n" + older)
    assert avsl_train("fit", recipe, "--run", run, "--set", "lr=1e-3", "--resume")[0] == 0
    assert (run / "recipe.toml").read_text() == "# mine\n" + older


def test_memory_that_isn_t_there_is_one_line(
    clips: Path, tmp_path: Path, avsl_train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        torch.empty(1 << 60)

    monkeypatch.setattr("avsl.train.dry_run.step_seconds", full)
    recipe = toml(replace(SMALL, data=str(clips / "clips")), tmp_path)
    code, _, err = avsl_train("fit", recipe, "--run", tmp_path / "run", "--dry-run")
    assert code == 2
    assert "small: takes more memory than there is; set labelled_batch" in err
