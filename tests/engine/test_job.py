"""The job document: nothing is lost on the way, and nothing bad gets in."""

import errno
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from old_documents import make_old_job
from PIL import Image

from softras import InputError, Landmark, Mesh, View, load_views
from softras.io.views import save_views
from softras.job import MAX_LINE, Job, check_protocol, decode, encode


@pytest.fixture
def job(cube: Mesh, square_views: list[View]) -> Job:
    square_views[1].weight = 0.25
    square_views[1].name = "a/b ../../ö\\c"
    square_views[2].ignore = np.eye(40, 48, dtype=bool)
    square_views[0].mask[12, 16:32] = 100 * np.float32(1 / 255)  # as it is read from 8 bits
    square_views[2].frame, square_views[2].landmarks = 7, (Landmark(4, (-1.5, 20)), Landmark(0, (3, 4), 0.5))
    return Job(square_views, cube, np.arange(8) < 3, {"mode": "refine", "seed": 3, "optimize": ["object"]})


@pytest.fixture
def folder(job: Job, tmp_path: Path) -> Path:
    job.save(tmp_path / "job")
    return tmp_path / "job"


@pytest.fixture
def old_folder(folder: Path) -> Path:
    """The same as version 1 had it, with its masks in .npy files."""
    make_old_job(folder)
    return folder


@pytest.mark.parametrize("version", [1, 2])
def test_a_job_comes_back_as_it_was_saved(job: Job, folder: Path, version: int) -> None:
    if version == 1:
        make_old_job(folder)
        assert {path.suffix for path in (folder / "masks").iterdir()} == {".npy"}
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
        *("000.png", "001.png", "002.png"),
    }
    assert list(folder.parent.iterdir()) == [folder]


def test_views_of_a_folder_come_back_from_a_job_to_the_bit(square_views: list[View], tmp_path: Path) -> None:
    """So a fit of the job is the fit of the views, soft edges and all."""
    square_views[0].mask[:8, :32] = np.arange(256).reshape(8, 32) / 255
    save_views(tmp_path / "views", square_views)
    views = load_views(tmp_path / "views")
    assert len(np.unique(views[0].mask)) == 256
    Job(views).save(tmp_path / "job")
    for got, want in zip(Job.load(tmp_path / "job").views, views, strict=True):
        assert got.camera == want.camera
        np.testing.assert_array_equal(got.mask, want.mask)


def test_a_job_lists_views_as_a_views_folder_does(job: Job, folder: Path, tmp_path: Path) -> None:
    save_views(tmp_path / "views", job.views)
    lists = [json.loads((tmp_path / name).read_text()) for name in ("job/job.json", "views/cameras.json")]
    assert lists[0]["version"] == lists[1]["version"] == 2
    assert lists[0]["views"] == lists[1]["views"]


def photographs(folder: Path, views: list[View]) -> list[Path]:
    """A photograph for each view, of a colour that tells it from the others."""
    folder.mkdir()
    for number, view in enumerate(views):
        view.photo = folder / f"Photo {number}.PNG"
        Image.new("RGB", (48, 40), (number, 200, 100)).save(view.photo)
    return [view.photo for view in views]


@pytest.mark.parametrize("links", [True, False])
def test_a_job_that_travels_has_its_photographs_inside(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Where the disk has hard links the photographs take no room of their own; everywhere they are whole."""
    if not links:

        def refuse(*arguments: object) -> None:
            raise OSError(errno.EXDEV, "another disk")

        monkeypatch.setattr(os, "link", refuse)
    photos = photographs(tmp_path / "photos", job.views)
    job.views[2].photo = photos[0]  # two views of one photograph
    (tmp_path / "photos" / "link.png").symlink_to(photos[1])
    job.views[1].photo = tmp_path / "photos" / "link.png"
    job.save(tmp_path / "job")
    stored = tmp_path / "job" / "photos"
    assert {path.name for path in stored.iterdir()} == {"000.png", "001.png"}
    assert not any(path.is_symlink() for path in stored.iterdir())
    assert (stored / "000.png").samefile(photos[0]) == links
    job.save(tmp_path / "job")  # again, over its own files
    (tmp_path / "job").rename(tmp_path / "moved")
    shutil.rmtree(tmp_path / "photos")
    found = [view.photo for view in Job.load(tmp_path / "moved").views]
    assert [photo.parent.name for photo in found] == ["photos"] * 3
    assert [Image.open(photo).getpixel((0, 0))[0] for photo in found] == [0, 1, 0]


def test_photographs_of_a_loaded_job_are_not_mixed_up_when_it_is_saved_again(job: Job, tmp_path: Path) -> None:
    """Views in another order, and a new photograph: the new one must not take the file of another view's."""
    photos = photographs(tmp_path / "photos", job.views)
    job.save(tmp_path / "job")
    first, second, third = Job.load(tmp_path / "job").views
    third.photo = tmp_path / "new.png"
    Image.new("RGB", (48, 40), (9, 200, 100)).save(third.photo)
    Job([third, first, second], job.mesh).save(tmp_path / "job")
    found = [view.photo for view in Job.load(tmp_path / "job").views]
    assert [Image.open(photo).getpixel((0, 0))[0] for photo in found] == [9, 0, 1]
    assert [Image.open(photo).getpixel((0, 0))[0] for photo in photos] == [0, 1, 2]  # hard links are not written to


def test_a_photograph_that_is_gone_is_left_out_of_a_job(job: Job, tmp_path: Path) -> None:
    job.views[0].photo = tmp_path / "gone.png"
    job.save(tmp_path / "job")
    assert Job.load(tmp_path / "job").views[0].photo is None


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_photographs_are_files_and_are_written_nowhere_else(job: Job, tmp_path: Path) -> None:
    photographs(tmp_path / "photos", job.views)
    (tmp_path / "job").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "job" / "photos").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="leads out of its folder"):
        job.save(tmp_path / "job")
    assert not list((tmp_path / "outside").iterdir()) and not (tmp_path / "job" / "job.json").exists()
    os.mkfifo(tmp_path / "pipe.png")  # no file, as if there were none
    job.views[0].photo = tmp_path / "pipe.png"
    job.save(tmp_path / "other")
    assert Job.load(tmp_path / "other").views[0].photo is None


def test_a_job_runs_elsewhere_with_its_photographs_in_the_report(job: Job, tmp_path: Path, softras: Callable) -> None:
    """The folder is copied to another place, and everything that it was made from is gone."""
    photographs(tmp_path / "photos", job.views)
    Job(job.views, job.mesh, settings={"optimize": ["object"]}).save(tmp_path / "job")
    shutil.copytree(tmp_path / "job", tmp_path / "elsewhere" / "job")
    shutil.rmtree(tmp_path / "job")
    shutil.rmtree(tmp_path / "photos")
    report = tmp_path / "elsewhere" / "report"
    done = softras("fit", tmp_path / "elsewhere" / "job", "--report", report, "--max-seconds", "0.5")
    assert done.returncode == 0 and "not shown" not in done.stderr, done.stderr
    for number in range(3):
        corner = np.asarray(Image.open(report / f"{number:03d}-outline.png"))[:4, :4]
        assert (np.abs(corner.astype(int) - (number, 200, 100)) <= 2).all()


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
        (lambda d: d.update(version=True), "the version of"),
        (lambda d: d.update(version="2"), "the version of"),
        (lambda d: d.update(views={}), "list 'views'"),
        (lambda d: d.update(views=[]), "no views"),
        (lambda d: d.update(settings=[]), "object 'settings'"),
        (lambda d: d["views"].append(7), "view 3 in"),
        (lambda d: d["views"][0].pop("camera"), "view 'along y': a camera must be an object"),
        (lambda d: d["views"][0]["camera"].pop("K"), "view 'along y': a camera lacks 'K'"),
        (lambda d: d["views"][0]["camera"].update(K=[[1, 2], [3]]), "view 'along y': camera K must hold numbers"),
        (lambda d: d["views"][0].pop("mask"), "view 'along y' in"),
        (lambda d: d.update(version=3), "is of version 3"),
        (
            lambda d: d["views"][0]["camera"].update(K=[[float("nan")] * 3] * 3),
            "camera K must hold finite numbers",
        ),
        (lambda d: d["views"][0]["camera"].update(width=2000), "is 48 x 40 pixels but its camera has 2000 x 40"),
        (lambda d: d["views"][0].update(weight="heavy"), "weight of view 'along y'"),
        (lambda d: d["views"][0].update(weight=-1), "weight of view 'along y' must be a number of 0 or more"),
        (lambda d: d["views"][0].update(ignore=True), "view 'along y': its ignore must be text"),
        (lambda d: d["views"][0].update(ignore="ignore/000.png"), "ignore/000.png does not exist"),
    ],
)
def test_a_wrong_document_is_refused_in_one_sentence(folder: Path, change, sentence: str) -> None:
    edit(folder, change)
    with pytest.raises(InputError) as error:
        Job.load(folder)
    assert sentence in str(error.value) and str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d["views"].append(7), "view 3 in"),
        (lambda d: d["views"][0].pop("camera"), "view 'along y': a camera must be an object"),
        (lambda d: d["views"][0]["camera"].update(width=2000), "must hold an array of 40 x 2000, not 40 x 48"),
        (lambda d: d["views"][0].update(weight=-1), "weight of view 'along y' must be a number of 0 or more"),
        (lambda d: d["views"][0].update(ignore="yes"), "view 'along y': its ignore must be true or false"),
        (lambda d: d["views"][0].update(ignore=True), "ignore/0000.npy: no such file"),
    ],
)
def test_a_wrong_old_document_is_refused_in_one_sentence(old_folder: Path, change, sentence: str) -> None:
    edit(old_folder, change)
    with pytest.raises(InputError) as error:
        Job.load(old_folder)
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
        (lambda f: Image.new("L", (2, 2)).save(f / "masks" / "001.png"), "is 2 x 2 pixels but its camera has 48 x 40"),
        (lambda f: (f / "masks" / "001.png").write_bytes(b"garbage"), "cannot be read"),
        (lambda f: (f / "masks" / "001.png").unlink(), "masks/001.png does not exist"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused_in_one_sentence(folder: Path, damage, sentence: str) -> None:
    damage(folder)
    with pytest.raises(InputError) as error:
        Job.load(folder)
    assert sentence in str(error.value) and str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: write(f / "masks" / "0001.npy", np.zeros((2, 2), np.uint8)), "40 x 48, not 2 x 2"),
        (lambda f: write(f / "masks" / "0001.npy", np.zeros((40, 48))), "type float64"),
        (lambda f: write(f / "masks" / "0001.npy", np.full((40, 48), None), allow_pickle=True), "damaged"),
        (lambda f: (f / "masks" / "0001.npy").unlink(), "masks/0001.npy: no such file"),
    ],
)
def test_damaged_files_of_an_old_job_are_refused_in_one_sentence(old_folder: Path, damage, sentence: str) -> None:
    damage(old_folder)
    with pytest.raises(InputError) as error:
        Job.load(old_folder)
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


@pytest.mark.parametrize("name", ["job.json", "vertices.npy", "masks/000.png", "masks", "old masks/0000.npy"])
def test_links_that_lead_out_of_the_folder_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    if name.startswith("old "):
        make_old_job(folder)
        name = name.removeprefix("old ")
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
    message = {"type": "run", "id": 1, "protocol": 2, "task": "fit", "job": '/tmp/ö\n"x"'}
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


@pytest.mark.parametrize("protocol", [None, 0, 1, "2", True, [2]])
def test_other_protocols_are_refused(protocol: object) -> None:
    with pytest.raises(InputError, match="speaks protocol 2"):
        check_protocol(protocol)
