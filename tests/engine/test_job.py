"""The job document: nothing is lost on the way, and nothing bad gets in."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from softras import InputError, Landmark, Mesh, View
from softras.job import MAX_LINE, Job, check_protocol, decode, encode


@pytest.fixture
def job(cube: Mesh, square_views: list[View]) -> Job:
    square_views[1].weight = 0.25
    square_views[1].name = "a/b ../../ö\\c"
    square_views[2].ignore = np.eye(40, 48, dtype=bool)
    square_views[0].mask[12, 16:32] = 100 / 255
    square_views[2].frame, square_views[2].landmarks = 7, (Landmark(4, (-1.5, 20)), Landmark(0, (3, 4), 0.5))
    return Job(square_views, cube, np.arange(8) < 3, {"mode": "refine", "seed": 3, "optimize": ["object"]})


@pytest.fixture
def folder(job: Job, tmp_path: Path) -> Path:
    job.save(tmp_path / "job")
    return tmp_path / "job"


def test_a_job_comes_back_as_it_was_saved(job: Job, folder: Path) -> None:
    loaded = Job.load(folder)
    assert loaded.settings == job.settings
    assert loaded.mesh is not None and loaded.mesh.faces.dtype == np.int32
    np.testing.assert_array_equal(loaded.mesh.vertices, job.mesh.vertices)
    np.testing.assert_array_equal(loaded.mesh.faces, job.mesh.faces)
    np.testing.assert_array_equal(loaded.lock, job.lock)
    for got, want in zip(loaded.views, job.views, strict=True):
        for name in ("name", "weight", "frame", "landmarks"):
            assert getattr(got, name) == getattr(want, name)
        np.testing.assert_array_equal(got.mask, want.mask)
        np.testing.assert_array_equal(got.camera.K, want.camera.K)
        np.testing.assert_array_equal(got.camera.world_to_camera, want.camera.world_to_camera)
        assert (got.camera.width, got.camera.height) == (48, 40)
        assert (got.camera.orthographic, got.camera.near) == (True, want.camera.near)
    np.testing.assert_array_equal(loaded.views[2].ignore, job.views[2].ignore)
    assert loaded.views[0].ignore is None


def test_names_never_become_paths(folder: Path) -> None:
    assert {path.name for path in folder.rglob("*")} == {
        *("job.json", "vertices.npy", "faces.npy", "lock.npy", "masks", "ignore"),
        *("0000.npy", "0001.npy", "0002.npy"),
    }
    assert list(folder.parent.iterdir()) == [folder]


def test_a_job_can_be_saved_over_an_older_one_with_its_result(job: Job, folder: Path) -> None:
    (folder / "best.npy").write_bytes(b"old")
    (folder / "result.json").write_bytes(b"old")
    Job(job.views[:1]).save(folder)
    assert not (folder / "best.npy").exists() and not (folder / "result.json").exists()
    loaded = Job.load(folder)
    assert loaded.mesh is None and loaded.lock is None and len(loaded.views) == 1


def edit(folder: Path, change) -> None:
    document = json.loads((folder / "job.json").read_text())
    change(document)
    (folder / "job.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(protocol=2), "protocol 1, not 2"),
        (lambda d: d.pop("protocol"), "protocol 1, not None"),
        (lambda d: d.update(protocol=True), "protocol 1, not True"),
        (lambda d: d.update(views={}), "list 'views'"),
        (lambda d: d.update(views=[]), "no views"),
        (lambda d: d.update(settings=[]), "object 'settings'"),
        (lambda d: d["views"].append(7), "view 3 in"),
        (lambda d: d["views"][0].pop("camera"), "view 'along y': a camera must be an object"),
        (lambda d: d["views"][0]["camera"].pop("K"), "view 'along y': a camera lacks 'K'"),
        (lambda d: d["views"][0]["camera"].update(K=[[1, 2], [3]]), "view 'along y': camera K must hold numbers"),
        (
            lambda d: d["views"][0]["camera"].update(K=[[float("nan")] * 3] * 3),
            "camera K must hold finite numbers",
        ),
        (lambda d: d["views"][0]["camera"].update(width=2000), "must hold an array of 40 x 2000, not 40 x 48"),
        (lambda d: d["views"][0].update(weight="heavy"), "weight of view 'along y'"),
        (lambda d: d["views"][0].update(weight=-1), "weight of view 'along y' must be a number of 0 or more"),
        (lambda d: d["views"][0].update(ignore=True), "ignore/0000.npy: no such file"),
    ],
)
def test_a_wrong_document_is_refused_in_one_sentence(folder: Path, change, sentence: str) -> None:
    edit(folder, change)
    with pytest.raises(InputError) as error:
        Job.load(folder)
    assert sentence in str(error.value) and str(error.value).endswith(".") and "\n" not in str(error.value)


def write(path: Path, array: np.ndarray, **options) -> None:
    np.save(path, array, **options)


def write_archive(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, a=np.zeros((8, 3)))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "job.json").unlink(), "has no job.json"),
        (lambda f: (f / "job.json").write_bytes(b"\xff{"), "not valid JSON"),
        (lambda f: (f / "job.json").write_text("[" * 100_000), "not valid JSON"),
        (lambda f: (f / "job.json").write_text("[]"), "JSON object"),
        (lambda f: (f / "vertices.npy").unlink(), "vertices.npy: no such file"),
        (lambda f: (f / "vertices.npy").write_bytes(b""), "damaged"),
        (lambda f: (f / "vertices.npy").write_bytes(b"garbage"), "damaged"),
        (lambda f: (f / "vertices.npy").write_bytes((f / "vertices.npy").read_bytes()[:-9]), "damaged"),
        (lambda f: write(f / "vertices.npy", np.zeros((8, 2))), "any x 3, not 8 x 2"),
        (lambda f: write(f / "vertices.npy", np.array([[None] * 3]), allow_pickle=True), "damaged"),
        (lambda f: write(f / "vertices.npy", np.full((8, 3), np.nan)), "NaN"),
        (lambda f: write(f / "vertices.npy", np.zeros((8, 3), complex)), "type complex128"),
        (lambda f: write_archive(f / "vertices.npy"), "damaged"),
        (lambda f: write(f / "faces.npy", np.full((1, 3), 99)), "outside 0..7"),
        (lambda f: write(f / "faces.npy", np.zeros((4, 3))), "type float64"),
        (lambda f: write(f / "lock.npy", np.zeros(5, bool)), "the mesh has 8 vertices"),
        (lambda f: write(f / "masks" / "0001.npy", np.zeros((2, 2), np.uint8)), "40 x 48, not 2 x 2"),
        (lambda f: write(f / "masks" / "0001.npy", np.zeros((40, 48))), "type float64"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused_in_one_sentence(folder: Path, damage, sentence: str) -> None:
    damage(folder)
    with pytest.raises(InputError) as error:
        Job.load(folder)
    assert sentence in str(error.value) and str(error.value).endswith(".") and "\n" not in str(error.value)


def test_pickles_are_not_opened(folder: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    (folder / "vertices.npy").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError):
        Job.load(folder)
    assert not (tmp_path / "exploded").exists()


def test_a_header_that_promises_terabytes_takes_no_memory(folder: Path) -> None:
    with open(folder / "vertices.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 3)})
    with pytest.raises(InputError, match="damaged"):
        Job.load(folder)


@pytest.mark.parametrize("name", ["job.json", "vertices.npy", "masks/0000.npy", "masks"])
def test_links_that_lead_out_of_the_folder_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    os.rename(folder / name, tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="leads out of its folder"):
        Job.load(folder)


def test_settings_that_are_not_json_are_refused(job: Job, tmp_path: Path) -> None:
    for value in (object(), float("nan"), {1, 2}):
        with pytest.raises(InputError, match="must be JSON values"):
            Job(job.views, settings={"x": value}).save(tmp_path / "other")
        assert not (tmp_path / "other" / "job.json").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*: a part of the path is a file; choose another folder\.$"):
        job.save(tmp_path / "file" / "job")


def test_messages_survive_the_way() -> None:
    message = {"type": "fit", "id": 1, "protocol": 1, "job": '/tmp/ö\n"x"'}
    line = encode(message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert decode(line) == message


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"{", b"[]\n", b"7", b'{"a": 1}', b'{"type": 7}', b"\xff\xfe\x00", b"[" * 100_000]
)
def test_garbage_is_no_message(line: bytes) -> None:
    with pytest.raises(InputError):
        decode(line)


def test_an_endless_line_is_no_message() -> None:
    with pytest.raises(InputError, match="shorter"):
        decode(b'{"type": "' + b"a" * MAX_LINE + b'"}')


@pytest.mark.parametrize("protocol", [None, 0, 2, "1", True, [1]])
def test_other_protocols_are_refused(protocol: object) -> None:
    with pytest.raises(InputError, match="speaks protocol 1"):
        check_protocol(protocol)
