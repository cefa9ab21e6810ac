"""A published network of speakers as a folder that needs no torch: `look.onnx`, and `look.json`,
which says what it is and what it is given."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avsl.engines import UserError
from avsl.engines.bundle import sha256
from avsl.train.speakers import crops
from avsl.train.speakers.crops import Array, Crops, Look

if TYPE_CHECKING:
    from avsl.train.speakers.light_asd import LightASD

GRAPH, META = "look.onnx", "look.json"
SCHEMA = 1
OPSET = 20

PUBLISHED = {
    "d44bc3ea7baa8e0946fa3921311714a630ed8b90a1928fab0dbe30d918909317": "AVA-ActiveSpeaker",
    "efc375833887eefa9d209dc92810e18519b04c3c73ea35a549f2a7f40b7d94d5": "TalkSet",
    "85e6c77fc981595234790d1e128ebb60352d37726b2445e0ef8891e2512fe9e3": "AVA-ActiveSpeaker",
    "6b4ef53694e874e96cf630198dc479c78aebb3993bbf166aee3d926dfe7d9342": "TalkSet",
}
"""What the files in the authors' repositories have learnt from last, by their hashes."""
UNKNOWN = "unknown: not a file that the authors published"


def import_look(path: Path, out: Path) -> dict[str, Any]:
    """Writes the network of a state-dict to a new folder; gives its `look.json`.

    Raises:
        UserError: it isn't one, or the folder is there already, or can't be written.
    """
    if out.exists():
        raise UserError(f"{out}: is there already; choose another folder, or remove it")
    from avsl.train.speakers.published import load_speakers

    network = load_speakers(path)
    digest = sha256(path)
    learnt = PUBLISHED.get(digest)
    beside = out.with_name(out.name + ".part")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{out}: can't be written ({error.strerror})") from None
    _export(network, beside / GRAPH)
    meta = {
        "schema": SCHEMA,
        "network": network.title,
        "learnt": learnt or UNKNOWN,
        "source": network.source,
        "licence": network.licence if learnt else UNKNOWN,
        "file": {"name": path.name, "sha256": digest},
        "pictures": {
            "shape": ["faces", "time", crops.SIDE, crops.SIDE],
            "per_second": crops.PER_SECOND,
            "side_in_boxes": (1 + crops.MARGIN) / 2,
            "lower_in_boxes": crops.MARGIN / 2,
        },
        "mfcc": {
            "shape": ["faces", f"{crops.STEPS} time", crops.CEPSTRA],
            "rate": crops.RATE,
            "window": crops.FRAME,
            "step": crops.STEP,
            "fft": crops.FFT,
            "filters": crops.FILTERS,
            "lifter": crops.LIFTER,
            "emphasis": crops.EMPHASIS,
        },
        "speaks": "by picture and sound; a logit, not calibrated",
        "looks": "by the picture alone; a logit, not calibrated",
        "sha256": {GRAPH: sha256(beside / GRAPH)},
    }
    (beside / META).write_text(json.dumps(meta, indent=2) + "\n", "utf-8")
    beside.rename(out)
    return meta


def _export(network: LightASD, path: Path) -> None:
    """Writes the graph, of any number of faces and pictures. By the older of PyTorch's exporters:
    the newer one (2.13) takes a recurrent network's length for fixed."""
    import torch

    from avsl.train.export import forget_the_machine

    names = ("pictures", "mfcc", "speaks", "looks")
    pictures = torch.zeros(2, 3, crops.SIDE, crops.SIDE, dtype=torch.uint8)
    heard = torch.zeros(2, 3 * crops.STEPS, crops.CEPSTRA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (pictures, heard),
            str(path),
            input_names=names[:2],
            output_names=names[2:],
            dynamic_axes={
                name: {0: "faces", 1: "steps" if name == "mfcc" else "time"} for name in names
            },
            opset_version=OPSET,
            dynamo=False,
        )
    forget_the_machine(path)


def open_look(folder: Path) -> Look:
    """What `scores` asks, of a folder that `import_look` has made; runs without torch.

    Raises:
        UserError: it isn't such a folder, or its graph isn't the one that was written.
    """
    import onnxruntime as ort

    graph = folder / GRAPH
    try:
        meta = json.loads((folder / META).read_text("utf-8"))
        fits = meta["schema"] == SCHEMA and meta["sha256"][GRAPH] == sha256(graph)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: not what avsl-train import makes ({error})") from None
    if not fits:
        raise UserError(f"{folder}: {GRAPH} is not the graph of {META}; import it again")
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns of each window that is shorter than the first was
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def look(faces: Crops, heard: Array) -> Array:
        out: Array = session.run(["speaks"], {"pictures": faces[None], "mfcc": heard[None]})[0][0]
        return out

    return look
