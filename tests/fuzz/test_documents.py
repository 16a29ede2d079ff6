"""Odd values anywhere in a document or a message: one clear sentence or a right answer, never anything else.

SOFTRAS_FUZZ_EXAMPLES is the number of examples of each test; `nox -s fuzz` tries thousands.
"""

from __future__ import annotations

import base64
import copy
import io
import itertools
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edits import changed, edits_of
from guard import MEMORY, guarded
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from softras import (
    Bone,
    Camera,
    FitResult,
    InputError,
    Landmark,
    Mesh,
    Rig,
    ShapeKey,
    Transform,
    View,
    load_textured_mesh,
    load_views,
)
from softras.io.poses import load_poses, save_poses
from softras.io.rigs import load_rig
from softras.io.views import save_views
from softras.job import PROTOCOL, Job
from softras.keeping import Keeper
from softras.rig import Armature
from softras.tasks.fit import fit_job
from softras.tasks.fit_state import FitState, resumed

EXAMPLES = int(os.environ.get("SOFTRAS_FUZZ_EXAMPLES", "40"))
SECONDS = 20.0  # until an answer; many times what it takes on a busy machine
FIT_SECONDS = 0.3  # of a fit whose document stayed right
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def some_views(landmarks: tuple[Landmark, ...] = ()) -> list[View]:
    mask = np.zeros((12, 16), np.float32)
    mask[3:9, 4:11] = 1
    side = np.array([[0.0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, 4], [0, 0, 0, 1]])
    front = np.eye(4)
    front[2, 3] = 4
    K = [[20.0, 0, 8], [0, 20, 6], [0, 0, 1]]
    first = View("front", Camera(K, front, 16, 12), mask, landmarks=landmarks)
    return [first, View("side", Camera(K, side, 16, 12), mask, weight=0.5)]


def some_mesh() -> Mesh:
    return Mesh(
        np.array([[-0.5, -0.5, -0.5], [0.5, -0.5, 0.5], [-0.5, 0.5, 0.5], [0.5, 0.5, -0.5]]),
        np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]),
    )


def some_rig() -> Rig:
    leg = np.eye(4)
    leg[1, 3] = 0.5
    pose = Transform(mode="XYZ", rotation=np.zeros(3), free_rotation=(True,) * 3, limits=np.array([[-1.0, 1]] * 3))
    bones = (Bone("hip", -1, np.eye(4), Transform(free_rotation=(True,) * 3)), Bone("leg", 0, leg, pose))
    armature = Armature(bones, np.arange(4), np.array([0, 0, 1, 1]), np.ones(4))
    return Rig(some_mesh(), Transform(), shape_keys=(ShapeKey("smile", np.eye(4, 3) / 10),), armature=armature)


SETTINGS = {"schedule": [{"resolution": 16, "steps": 2, "blur": [0.5, 0.3]}], "seed": 0, "turns": 0}
MORE_SETTINGS = tuple(
    ("settings", name)
    for name in (
        *("mode", "optimize", "camera_parts", "cameras_together", "known_frame", "device", "place", "symmetry"),
        *("symmetry_frame", "cull", "preconditioned", "batch", "weights", "max_seconds", "patience", "voxels"),
        *("cls", "self", "start", "lock", ""),
    )
)
MORE_STAGE = tuple(
    ("settings", "schedule", 0, name) for name in ("rate", "smoothing", "stiffness", "edge", "remesh_every", "cls")
)


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def saved_job(folder: Path, **start: Any) -> dict:
    """A job in folder, and its document."""
    if not (folder / "job.json").is_file():
        Job(some_views(), settings=copy.deepcopy(SETTINGS), **start).save(folder)
        shutil.copy(folder / "job.json", folder / "kept.json")
    return json.loads((folder / "kept.json").read_text())


# Module-level, since hypothesis needs the places of the document before any fixture is there.
JOB = saved_job(Path(tempfile.mkdtemp(prefix="softras-fuzz-")), mesh=some_mesh())
VIEW = ("views", 0)


def on_one_line(text: str) -> bool:
    """Whether text has neither control characters nor ends of lines."""
    return all(unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp") for letter in text)


def refused_or(work: Callable[[], Any], folder: Path) -> Any:
    """What work gives, or the sentence with which it refuses; `guarded` says what else is a fault."""
    sentence = ""
    with guarded(folder, "this document"):
        try:
            return work()
        except InputError as error:
            sentence = str(error)
            raise
    assert sentence.endswith(".") and on_one_line(sentence) and len(sentence) <= 1100
    sentence.encode()  # no halves of a character, which no terminal shows
    return sentence


def short_fit(folder: Path) -> None:
    end = time.monotonic() + FIT_SECONDS
    job = Job.load(folder)
    for event in fit_job(job, stop=lambda: time.monotonic() > end):
        vertices = event.mesh.vertices if isinstance(event, FitResult) else event.vertices
        assert vertices is None or np.isfinite(vertices).all()
        assert all(on_one_line(note) for note in event.notes)
    assert isinstance(event, FitResult)


@fuzz
@given(edits_of(JOB, (*MORE_SETTINGS, *MORE_STAGE)))
@example([((*VIEW, "weight"), int("9" * 400))])
@example(
    [((*VIEW, "landmarks"), [{"vertex": 0, "pixel": [int("9" * 400), 1]}]), (("settings", "optimize"), ["object"])]
)
@example([(("settings", "max_seconds"), int("9" * 400))])
@example([((*VIEW, "frame"), int("9" * 400)), (("settings", "optimize"), ["object"])])
@example([((*VIEW, "camera", "near"), 1e308)])
@example([((*VIEW, "camera", "world_to_camera", 1, 3), 2**31)])
@example([((*VIEW, "camera", "K"), [[0, 0, 0], [0, 0, 0], [0, 0, 1]])])
@example([((*VIEW, "camera", "world_to_camera"), [[0] * 4] * 4)])
@example([(("settings", "symmetry"), "x"), (("settings", "symmetry_frame"), [0] * 16)])
@example([(("settings", "schedule", 0, "blur"), [1e200, 1e200])])
@example([(("settings", "schedule", 0, "blur"), [1e-200, 1e-200])])
@example([(("settings", "schedule", 0, "rate"), [1e30, 1e30])])
@example([(("settings", "schedule", 0, "rate"), [1e300, 1e300])])
@example([(("mesh",), False), (("settings", "mode"), "reconstruct"), (("settings", "voxels"), 1)])
@example([(("mesh",), False), (("settings", "mode"), "reconstruct"), (("settings", "voxels"), 10**30)])
@example([((*VIEW, "photo"), "a" * 1000)])
@example([(("settings", "cls"), 1)])
def test_a_job_is_fitted_or_refused(scratch: Path, edits: list) -> None:
    folder = scratch / "job"
    document = changed(saved_job(folder, mesh=some_mesh()), edits)
    (folder / "job.json").write_text(json.dumps(document))
    refused_or(lambda: short_fit(folder), scratch)


def test_the_documents_that_are_changed_are_right_themselves(scratch: Path) -> None:
    for name, start in (("right", {"mesh": some_mesh()}), ("right rig", {"rig": some_rig()})):
        saved_job(scratch / name, **start)
        assert refused_or(lambda name=name: short_fit(scratch / name), scratch) is None


def test_names_with_control_characters_are_told_on_one_line(scratch: Path) -> None:
    views = some_views()
    views[1].name = "\x1b[31mside\n\u202e"
    views[1].mask = np.zeros_like(views[1].mask)
    Job(views, some_mesh(), settings=SETTINGS).save(scratch / "names")
    *_, result = fit_job(Job.load(scratch / "names"))
    assert any("[31mside" in note for note in result.notes)
    assert all(on_one_line(note) for note in result.notes)


@fuzz
@given(st.data())
def test_a_rig_is_loaded_or_refused(scratch: Path, data: st.DataObject) -> None:
    folder = scratch / "rig job"
    saved_job(folder, rig=some_rig())
    kept = folder / "kept rig.json"
    if not kept.exists():
        shutil.copy(folder / "rig" / "rig.json", kept)
    document = json.loads(kept.read_text())
    (folder / "rig" / "rig.json").write_text(json.dumps(changed(document, data.draw(edits_of(document)))))
    refused_or(lambda: load_rig(folder / "rig").vertices(), scratch)


@fuzz
@given(st.data())
def test_poses_are_loaded_or_refused(scratch: Path, data: st.DataObject) -> None:
    rig, path, kept = some_rig(), scratch / "poses.json", scratch / "kept poses.json"
    if not kept.exists():
        save_poses(kept, {3: rig}, [view.camera for view in some_views()])
    document = json.loads(kept.read_text())
    path.write_text(
        json.dumps(changed(document, data.draw(edits_of(document, (("frames", "x"), ("frames", "9" * 400))))))
    )
    refused_or(lambda: load_poses(path, rig), scratch)


@fuzz
@given(st.data())
def test_a_cameras_json_is_loaded_or_refused(scratch: Path, data: st.DataObject) -> None:
    folder = scratch / "views"
    kept = scratch / "kept cameras.json"
    if not kept.exists():
        save_views(folder, some_views((Landmark(1, (5.0, 4.0), 0.5),)))
        shutil.copy(folder / "cameras.json", kept)
    document = json.loads(kept.read_text())
    if data.draw(st.booleans()):
        as_version_1(document)
    optional = ("photo", "image", "ignore", "frame", "weight", "mask_channel", "mask_threshold", "mask_invert")
    more = (("version",), ("views", 0, "orthographic"), *(("views", 0, name) for name in optional))
    (folder / "cameras.json").write_text(json.dumps(changed(document, data.draw(edits_of(document, more)))))
    refused_or(lambda: load_views(folder), scratch)


def test_rows_of_several_lengths_in_a_cameras_json(scratch: Path) -> None:
    save_views(scratch / "ragged", some_views())
    path = scratch / "ragged" / "cameras.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(changed(document, [(("views", 1, "camera", "world_to_camera", 0), [])])))
    assert "world_to_camera must hold numbers" in refused_or(lambda: load_views(path), scratch)
    as_version_1(document)
    path.write_text(json.dumps(changed(document, [(("views", 1, "t", 0), [])])))
    assert "its camera's t must hold numbers" in refused_or(lambda: load_views(path), scratch)


def as_version_1(document: dict) -> None:
    """Spread the cameras of a cameras.json over its views; they look another way than before."""
    del document["version"]
    for view in document["views"]:
        view.update(view.pop("camera"), R=[[0, 0, -1], [0, 1, 0], [1, 0, 0]], t=[0, 0, 4])


@fuzz
@given(st.data())
def test_arrays_of_a_job_are_read_or_refused(scratch: Path, data: st.DataObject) -> None:
    folder = scratch / "array job"
    document = saved_job(folder, rig=some_rig())
    document["views"][0]["mask"] = "masks/0000.npy"
    (folder / "job.json").write_text(json.dumps(document))
    np.save(folder / "masks" / "0000.npy", np.eye(12, 16, dtype=np.uint8) * 255)
    names = ("masks/0000", "rig/vertices", "rig/faces", "rig/key_0000", "rig/skin_vertices", "rig/skin_weights")
    path = folder / f"{data.draw(st.sampled_from(names))}.npy"
    kept = path.read_bytes()
    value = data.draw(st.sampled_from((-1, 0, 1, 300, 2**31 - 1, 1e15, 1e16, 1e30, 1e300, np.nan, np.inf)))
    shape = data.draw(st.sampled_from(((), (0,), (4,), (4, 3), (1, 3), (0, 3), (12, 16), (2, 2, 2))))
    dtype = data.draw(st.sampled_from(("f8", "f4", "f2", "i8", "i4", "u1", "u8", "?", "c16", "S3", "M8[s]")))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            np.save(path, np.full(shape, value).astype(dtype))
        except (ValueError, OverflowError):
            return
    try:
        refused_or(lambda: Job.load(folder).start.vertices(), scratch)
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize("dtype", ["f2", "f4", "g"])
def test_numbers_of_any_precision_are_checked_without_a_warning(scratch: Path, dtype: str) -> None:
    saved_job(scratch / "precision", rig=some_rig())
    np.save(scratch / "precision" / "rig" / "skin_weights.npy", np.ones(4, dtype))
    assert refused_or(lambda: Job.load(scratch / "precision").start.vertices(), scratch).shape == (4, 3)


def kept_result(folder: Path) -> dict:
    """The result.json of a fit of two views, a mesh and their cameras, which was killed."""
    kept = folder / "kept result.json"
    if not kept.is_file():
        settings = {**SETTINGS, "optimize": ["vertices", "cameras"]}
        Job(some_views(), some_mesh(), settings=settings).save(folder)
        cameras = [view.camera for view in some_views()]
        keeper = Keeper(folder)
        keeper.begin()
        keeper.keep(FitState(some_mesh().vertices, None, {}, cameras, [0.5, None], 3).kept(None))
        shutil.copy(folder / "result.json", kept)
    return json.loads(kept.read_text())


RESULT = kept_result(Path(tempfile.mkdtemp(prefix="softras-fuzz-")))


@fuzz
@given(edits_of(RESULT, (("faces",), ("rig_vertices",), ("more",))))
def test_a_result_is_resumed_or_refused(scratch: Path, edits: list) -> None:
    folder = scratch / "result"
    (folder / "result.json").write_text(json.dumps(changed(kept_result(folder), edits)))
    refused_or(lambda: resumed(Job.load(folder), folder), scratch)


def gltf() -> dict[str, Any]:
    """Two triangles and a strip, of every kind of data that is read."""
    data = b"".join(
        (
            np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], "<f4").tobytes(),  # 48 bytes
            np.array([0, 1, 2, 2, 1, 3], "<u2").tobytes(),  # 12
            np.array([[0, 0], [255, 0], [0, 255], [255, 255]], "u1").tobytes(),  # 8
            np.array([1], "<u4").tobytes() + np.array([[2, 0, 0]], "<f4").tobytes(),  # 16
        )
    )
    ends = [0, 48, 60, 68, 72, 84]
    views = [{"buffer": 0, "byteOffset": a, "byteLength": b - a} for a, b in itertools.pairwise(ends)]
    views[0]["byteStride"] = 12
    sparse = {
        "count": 1,
        "indices": {"bufferView": 3, "byteOffset": 0, "componentType": 5125},
        "values": {"bufferView": 4, "byteOffset": 0},
    }
    accessors = [
        {"bufferView": 0, "byteOffset": 0, "componentType": 5126, "count": 4, "type": "VEC3", "sparse": sparse},
        {"bufferView": 1, "componentType": 5123, "count": 6, "type": "SCALAR"},
        {"bufferView": 2, "componentType": 5121, "count": 4, "type": "VEC2", "normalized": True},
    ]
    pixels = io.BytesIO()
    Image.new("RGB", (2, 2)).save(pixels, "PNG")
    texture = {"index": 0, "texCoord": 0}
    attributes = {"POSITION": 0, "TEXCOORD_0": 2}
    return {
        **{"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "extensionsRequired": []},
        "nodes": [
            {"children": [1], "rotation": [0, 0, 0, 1], "scale": [1, 2, 1], "translation": [0, 0, 1]},
            {"mesh": 0, "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]},
        ],
        "meshes": [
            {
                "primitives": [
                    {"attributes": attributes, "indices": 1, "material": 0, "mode": 4},
                    {"attributes": attributes, "material": 0, "mode": 5},
                ]
            }
        ],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": texture}}],
        "textures": [{"source": 0}],
        "images": [{"uri": f"data:image/png;base64,{base64.b64encode(pixels.getvalue()).decode()}"}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": 84, "uri": f"data:x/y;base64,{base64.b64encode(data).decode()}"}],
    }


MORE_GLTF = (("nodes", 0, "matrix"), ("nodes", 1, "children"), ("meshes", 0, "primitives", 0, "attributes", "COLOR_0"))


@fuzz
@given(edits_of(gltf(), MORE_GLTF))
@example([(("nodes", 0, "rotation", 0), 1e200)])
@example([(("nodes", 0, "scale", 0), 1e308), (("nodes", 1, "matrix", 0), 1e308)])
@example([(("nodes", 0, "rotation"), [0, 0, 0, 0])])
@example([(("accessors", 0, "byteOffset"), 2**63)])
def test_a_gltf_is_read_or_refused(scratch: Path, edits: list) -> None:
    path = scratch / "a.gltf"
    path.write_text(json.dumps(changed(gltf(), edits)))
    refused_or(lambda: load_textured_mesh(path), scratch)


def test_the_gltf_and_the_result_that_are_changed_are_right_themselves(scratch: Path) -> None:
    (scratch / "right.gltf").write_text(json.dumps(gltf()))
    found = refused_or(lambda: load_textured_mesh(scratch / "right.gltf"), scratch)
    assert len(found.mesh.faces) == 4 and found.uv.max() == 1 and found.texture.shape == (2, 2, 3)
    assert found.mesh.vertices.max(axis=0).tolist() == [2, 2, 1], "the sparse value, moved and scaled"
    assert kept_result(scratch / "right result")["poses"]
    assert (
        refused_or(lambda: resumed(Job.load(scratch / "right result"), scratch / "right result"), scratch)[1].step == 3
    )


class Server:
    """A `softras serve` and its answers."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-m", "softras", "serve"], stdin=pipe, stdout=pipe)
        self.lines: queue.Queue[bytes] = queue.Queue()
        self.numbers = itertools.count(1_000_000)
        threading.Thread(target=self._read, daemon=True).start()
        assert self.next()["type"] == "hello"

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)

    def next(self) -> dict[str, Any]:
        """The next message; heartbeats are left out."""
        while True:
            message = json.loads(self.lines.get(timeout=3 * SECONDS))
            if message["type"] in ("hello", "result", "error"):
                return message

    def answers(self, line: bytes, *, answered: bool) -> list[dict[str, Any]]:
        """All that is said to a line, until a request after it is answered."""
        number = next(self.numbers)
        said = []
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()
        if answered:  # a run is answered by a thread of its own
            said.append(self.next())
        self.process.stdin.write(json.dumps({"type": "nothing", "id": number, "protocol": PROTOCOL}).encode() + b"\n")
        self.process.stdin.flush()
        while (message := self.next())["id"] != number:
            said.append(message)
        return said


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    if sys.platform.startswith("linux"):
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert int(status.partition("VmHWM:")[2].split()[0]) << 10 < MEMORY
    server.process.kill()
    server.process.wait()


REQUEST = {
    "type": "run",
    "id": 7,
    "protocol": PROTOCOL,
    "task": "fit",
    "job": "no such folder",
    "report": None,
    "of": 1,
}
STOP = {"type": "stop", "id": 8, "protocol": PROTOCOL, "of": 7}


@fuzz
@given(st.sampled_from((REQUEST, STOP)), edits_of(REQUEST, (("more",),)))
@example(REQUEST, [(("id",), float("nan"))])
@example(REQUEST, [(("id",), float("inf"))])
@example(REQUEST, [(("job",), "a" * 5000)])
@example(REQUEST, [(("job",), "\x00")])
@example(REQUEST, [(("job",), "\ud800")])
@example(REQUEST, [(("type",), "\x1b[31m")])
@example(REQUEST, [(("task",), "\x1b[31m")])
def test_every_request_has_one_answer_with_its_id(server: Server, given_request: dict, edits: list) -> None:
    message = changed(given_request, edits)
    right_type = isinstance(message.get("type"), str)
    right_id = right_type and type(message.get("id")) is int and 0 <= message["id"] < 2**31
    silent = message.get("type") == "stop" and message.get("protocol") == PROTOCOL and right_id
    said = server.answers(json.dumps(message).encode(), answered=not silent)
    assert len(said) == (0 if silent else 1), said
    for answer in said:
        assert (answer["type"], answer["kind"]) == ("error", "input"), answer
        assert answer["id"] == (message["id"] if right_id else None)
        assert answer["message"].endswith(".") and on_one_line(answer["message"])


@fuzz
@given(st.one_of(st.binary(max_size=40), st.text(max_size=40, alphabet='{}[]:,"019.-eE tfn').map(str.encode)))
@example(b"")
@example(b"[" * 100_000)
@example(b"9" * 10_000)
@example(b'{"type": "fit"' + b" " * (1 << 20))
def test_any_line_has_one_answer(server: Server, line: bytes) -> None:
    (answer,) = server.answers(line.replace(b"\n", b"\r"), answered=True)
    assert (answer["type"], answer["kind"], answer["id"]) == ("error", "input", None)
