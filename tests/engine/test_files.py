"""Files: whole or not at all, inside their folder, and never a wait for what is no file."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from old_documents import make_old_job, make_old_views
from PIL import Image

from softras import InputError, Mesh, View, files, load_textured_mesh
from softras.files import open_data, read_array, read_bytes, read_json, write_bytes, write_json
from softras.io.meshes import load_mesh, save_mesh
from softras.io.views import load_views, save_views
from softras.job import Job

POSIX = pytest.mark.skipif(os.name != "posix", reason="pipes, links and limits as POSIX has them")


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    """A read of a pipe that waits for ever is a failure, and not the end of the run."""
    if not hasattr(signal, "alarm"):
        yield
        return

    def late(number: int, frame: object) -> None:
        raise TimeoutError("a file was waited for")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the whole path may be longer than a socket's name can be
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


NO_FILES = [pipe, bound_socket, lambda path: path.symlink_to("/dev/zero"), Path.mkdir]


@POSIX
@pytest.mark.parametrize("make", NO_FILES, ids=["pipe", "socket", "device", "folder"])
def test_only_regular_files_are_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "data.npy")
    for read in (
        open_data,
        read_bytes,
        read_json,
        lambda path: read_array(Path("/"), str(path), (None,), "f"),
    ):
        with pytest.raises(InputError, match=r"data\.npy (is not a regular file|is a folder|leads out of)"):
            read(tmp_path / "data.npy")


def test_a_file_is_read_through_a_link_but_not_when_it_is_missing_or_too_large(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link", most=5) == b"12345"
    with pytest.raises(InputError, match="too large"):
        open_data(tmp_path / "file", most=4)
    with pytest.raises(InputError, match=r"cannot read .*none: no such file or directory; check the file\.$"):
        open_data(tmp_path / "none")
    with pytest.raises(InputError, match="no name of a file"):
        open_data("a\0b")


@POSIX
@pytest.mark.parametrize("name", ["job.json", "vertices.npy", "masks/000.png", "masks/0000.npy"])
def test_a_pipe_in_a_job_is_no_reason_to_wait(cube: Mesh, square_views: list[View], tmp_path: Path, name: str) -> None:
    Job(square_views, cube).save(tmp_path)
    if name == "masks/0000.npy":
        make_old_job(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="not a regular file|not a job folder"):
        Job.load(tmp_path)


def photograph(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((40, 48, 3), 90, np.uint8)).save(path)
    return path


def edit(path: Path, **entry: object) -> None:
    document = json.loads(path.read_text())
    document["views"][0].update(entry)
    path.write_text(json.dumps(document))


@POSIX
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("way", ["absolute", "..", "link", "folder"])
def test_images_of_a_views_folder_lie_in_it_or_where_the_user_allows(
    square_views: list[View], tmp_path: Path, way: str, version: int
) -> None:
    folder, outside = tmp_path / "views", tmp_path / "outside"

    def save() -> None:
        save_views(folder, square_views)
        if version == 1:
            make_old_views(folder)

    save()
    secret = photograph(outside / "secret.png")
    (folder / "link.png").symlink_to(secret)
    (folder / "folder").symlink_to(outside)
    name = {"absolute": str(secret), "..": "../outside/secret.png", "link": "link.png", "folder": "folder/secret.png"}
    edit(folder / "cameras.json", **{"image" if version == 1 else "photo": name[way]})
    with pytest.warns(UserWarning, match=r"are not shown, since they lie outside it; allow '.*outside' to see them"):
        assert load_views(folder)[0].photo is None
    photo = load_views(folder, allow=[outside])[0].photo
    assert photo is not None and photo.samefile(secret)
    for key in ("mask", "ignore"):
        save()
        (outside / "mask.png").write_bytes((folder / "masks" / "000.png").read_bytes())
        (folder / "link.png").unlink(missing_ok=True)
        (folder / "link.png").symlink_to(outside / "mask.png")
        edit(folder / "cameras.json", **{key: name[way].replace("secret", "mask")})
        with pytest.raises(InputError, match=r"view 'along y': .* leads out of its folder; .* or allow the folder"):
            load_views(folder)
        if key == "mask":
            np.testing.assert_array_equal(load_views(folder, allow=[outside])[0].mask, square_views[0].mask)


@POSIX
@pytest.mark.parametrize("way", ["absolute", "..", "link"])
@pytest.mark.parametrize("kind", ["mtllib", "map_Kd", "ply", "gltf"])
def test_what_a_mesh_names_lies_in_its_folder_or_where_the_user_allows(tmp_path: Path, kind: str, way: str) -> None:
    folder, outside = tmp_path / "mesh", tmp_path / "outside"
    folder.mkdir()
    photograph(outside / "x.png")
    (outside / "x.mtl").write_text("newmtl m\nmap_Kd x.png\n")
    corners = np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0]]).tobytes() + np.uint32([0, 1, 2]).tobytes()
    (outside / "x.bin").write_bytes(corners)
    ending = {"mtllib": "mtl", "gltf": "bin"}.get(kind, "png")
    (folder / "link").symlink_to(outside / f"x.{ending}")
    name = {"absolute": f"{outside}/x.{ending}", "..": f"../outside/x.{ending}", "link": "link"}[way]
    if kind in ("mtllib", "map_Kd"):
        path, library = folder / "a.obj", name if kind == "mtllib" else "a.mtl"
        path.write_text(f"mtllib {library}\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nusemtl m\nf 1/1 2/1 3/1\n")
        (folder / "a.mtl").write_text(f"newmtl m\nmap_Kd {name}\n")
        (folder / "x.png").write_bytes((outside / "x.png").read_bytes())
    elif kind == "ply":
        path = folder / "a.ply"
        properties = "".join(f"property float {axis}\n" for axis in "xyzuv")
        path.write_text(
            f"ply\nformat ascii 1.0\ncomment TextureFile {name}\nelement vertex 3\n{properties}element face 1\n"
            "property list uchar int vertex_indices\nend_header\n0 0 0 0 0\n1 0 0 0 0\n0 1 0 0 0\n3 0 1 2\n"
        )
    else:
        path = folder / "a.gltf"
        views = [{"buffer": 0, "byteOffset": at, "byteLength": size} for at, size in ((0, 36), (36, 12))]
        types = ((5126, "VEC3"), (5125, "SCALAR"))
        accessors = [
            {"bufferView": n, "componentType": number, "count": 3, "type": name}
            for n, (number, name) in enumerate(types)
        ]
        primitive = {"attributes": {"POSITION": 0}, "indices": 1}
        document = {"asset": {"version": "2.0"}, "buffers": [{"uri": name, "byteLength": 48}], "bufferViews": views}
        document |= {"accessors": accessors, "meshes": [{"primitives": [primitive]}], "nodes": [{"mesh": 0}]}
        path.write_text(json.dumps(document | {"scenes": [{"nodes": [0]}], "scene": 0}))
    with pytest.raises(InputError, match="leads out of its folder"):
        load_textured_mesh(path)
    found = load_textured_mesh(path, allow=[outside])
    assert found.mesh.faces.shape == (1, 3) and (found.texture is None) == (kind == "gltf")


@POSIX
@pytest.mark.parametrize(
    ("make", "name"), [(os.mkfifo, "a.obj"), (Path.mkdir, "b.obj"), (lambda path: None, "x" * 300 + ".obj")]
)
def test_a_mesh_that_could_not_be_written_is_refused_before_the_work(
    square_views: list[View], tmp_path: Path, softras: Callable, make: Callable[[Path], None], name: str
) -> None:
    save_views(tmp_path / "views", square_views)
    make(tmp_path / name)
    done = softras("fit", "--views", tmp_path / "views", "--out", tmp_path / name)
    assert done.returncode == 2 and done.stderr.startswith("softras: cannot write ") and "%" not in done.stderr


def test_photographs_of_a_job_lie_in_it_or_where_the_user_allows(
    cube: Mesh, square_views: list[View], tmp_path: Path
) -> None:
    inner, outer = photograph(tmp_path / "job" / "0.png"), photograph(tmp_path / "photos" / "1.png")
    square_views[0].photo, square_views[1].photo = inner, outer
    Job(square_views, cube).save(tmp_path / "job", self_contained=False)
    save_views(tmp_path / "job", square_views)
    moved = tmp_path / "moved"  # what lies in the folder moves with it
    (tmp_path / "job").rename(moved)
    for load in (Job.load, load_views):
        with pytest.warns(UserWarning, match="are not shown"):
            found = load(moved)
        views = found.views if isinstance(found, Job) else found
        assert [view.photo for view in views] == [moved / "0.png", None, None]
        found = load(moved, allow=[outer.parent])
        views = found.views if isinstance(found, Job) else found
        assert [view.photo for view in views] == [moved / "0.png", outer, None]


@POSIX
def test_a_write_takes_the_place_of_a_link_and_follows_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, victim = tmp_path / "folder", tmp_path / "victim"
    folder.mkdir()
    victim.write_bytes(b"precious")
    (folder / "best.npy").symlink_to(victim)
    for number in range(1, 40):  # the names that a temporary file would have, were they made of the process's number
        (folder / f".best.npy.{os.getpid() + number - 1}.part").symlink_to(victim)
    write_bytes(folder / "best.npy", b"new")
    assert victim.read_bytes() == b"precious"
    assert not (folder / "best.npy").is_symlink() and (folder / "best.npy").read_bytes() == b"new"
    # Even where the name is known: what waits there is not written to.
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "known")
    (folder / ".softras-known.part").symlink_to(victim)
    with pytest.raises(InputError, match=r"cannot write .*other: file exists\.$"):
        write_bytes(folder / "other", b"new")
    assert victim.read_bytes() == b"precious"


@POSIX
@pytest.mark.parametrize("make", NO_FILES, ids=["pipe", "socket", "device", "folder"])
def test_a_write_takes_the_place_of_files_alone(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "data.npy")
    if (tmp_path / "data.npy").is_symlink():
        write_bytes(tmp_path / "data.npy", b"x")  # the link is replaced, the device is left alone
        assert (tmp_path / "data.npy").is_file() and Path("/dev/zero").is_char_device()
        return
    before = (tmp_path / "data.npy").lstat().st_mode
    with pytest.raises(InputError, match=r"cannot write .*data\.npy: (there is a pipe|it is a folder)"):
        write_bytes(tmp_path / "data.npy", b"x")
    assert (tmp_path / "data.npy").lstat().st_mode == before


@POSIX
@pytest.mark.parametrize("name", ["masks", "ignore"])
def test_folders_of_a_job_that_lead_outside_are_not_written_to(
    cube: Mesh, square_views: list[View], tmp_path: Path, name: str
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / name).symlink_to(tmp_path / "outside")
    square_views[0].ignore = np.eye(40, 48, dtype=bool)
    with pytest.raises(InputError, match="leads out of its folder"):
        Job(square_views, cube).save(tmp_path / "job")
    assert not list((tmp_path / "outside").iterdir())


def test_a_reader_sees_a_whole_file_while_it_is_written_again(tmp_path: Path) -> None:
    contents = [bytes([letter]) * 3_000_000 for letter in b"ab"]
    write_bytes(tmp_path / "file", contents[0])
    done = threading.Event()

    def write() -> None:
        for number in range(40):
            write_bytes(tmp_path / "file", contents[number % 2], lasting=False)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    while not done.is_set():
        seen.add(read_bytes(tmp_path / "file"))
    thread.join()
    assert seen <= set(contents)


@POSIX
@pytest.mark.parametrize("lasting", [True, False])
def test_what_lasts_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    """The order that survives a crash of the machine: the data, the name, the folder."""
    told: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        told.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else f"{os.fstat(descriptor).st_size} bytes")
        sync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        told.append("name")
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(files.os, "replace", replaced)
    write_bytes(tmp_path / "file", b"12345", lasting=lasting)
    assert told == (["5 bytes", "name", "folder"] if lasting else ["name"])


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        write_bytes(tmp_path / "target", b"x")
    with pytest.raises(InputError, match="no name of a file"):
        write_bytes(tmp_path / "a\0b", b"x")
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", float("nan"))
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize("type_", [">f8", "<f8", ">f4", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_byte_order_are_read(tmp_path: Path, type_: str, order: str) -> None:
    wanted = np.arange(24).reshape(8, 3)
    np.save(tmp_path / "a.npy", np.asarray(wanted.astype(type_), order=order))
    found = read_array(tmp_path, "a.npy", (None, 3), "f")
    np.testing.assert_array_equal(found, wanted)
    assert found.flags.c_contiguous and found.flags.writeable and found.dtype.isnative
    assert found.dtype.itemsize == int(type_[-1])


def header(shape: object, descr: object = "<f8") -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        header((10**12, 3)),
        header((2**70, 3)),
        header((-8, 3)) + bytes(192),
        header((8, 3)) + bytes(191),
        header((8, 3)) + bytes(193),
        header((8, 3), "|O") + bytes(192),
        header((8, 3), "<f99") + bytes(192),
        header((8, 3.0)) + bytes(192),
        header((8, 3), "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")) + bytes(192),
        header("(8, 3)") + bytes(192),
        b"\x93NUMPY\x03\x00\xff\xff\xff\xff{}",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
        b"\x93NUMPY\x01\x00\x04\x00((((",
        b"PK\x03\x04",
        b"",
    ],
)
def test_a_damaged_array_is_one_sentence_and_takes_no_memory(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.npy is damaged.*write it anew\.$"):
        read_array(tmp_path, "a.npy", (None, 3), "f")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_of_files_may_be_of_any_bytes(
    cube: Mesh, square_views: list[View], tmp_path: Path, softras: Callable, encoding: str
) -> None:
    """Latin-1 names on a system of UTF-8, everywhere that names go: paths, JSON, HTML, the table of views."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    square_views[0].name = os.fsdecode(b"vue \xe9")
    save_views(folder / "views", square_views)
    mask, moved = folder / "views" / "masks" / "000.png", os.fsdecode(b"masks/\xe9.png")
    mask.rename(folder / "views" / moved)
    edit(folder / "views" / "cameras.json", mask=moved, photo=moved)
    save_mesh(folder / os.fsdecode(b"d\xe9but.obj"), cube)
    done = softras(
        *("fit", "--mesh", folder / os.fsdecode(b"d\xe9but.obj"), "--views", folder / "views", "--max-seconds", "0.1"),
        *(
            "--out",
            folder / os.fsdecode(b"fin\xff.obj"),
            "--out-views",
            folder / "moved",
            "--report",
            folder / "report",
        ),
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    assert "vue" in done.stdout and "mesh: " in done.stdout
    assert "vue" in (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert load_mesh(folder / os.fsdecode(b"fin\xff.obj")).faces.shape == cube.faces.shape
    again = load_views(folder / "moved", allow=[folder])
    assert again[0].name == square_views[0].name and again[0].photo == folder / "views" / moved
    refused = softras("fit", "--mesh", folder / os.fsdecode(b"\xe9.obj"), "--views", folder, "--out", "x.obj")
    assert refused.returncode == 2 and refused.stderr.endswith(".obj does not exist.\n")


FULL = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from softras import InputError, Mesh
from softras import files
from softras.io import meshes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
folder, noise = Path(sys.argv[1]), np.random.default_rng(0).random((200, 3))
mesh = Mesh(noise, np.arange(198).reshape(-1, 3))
writers = [
    lambda: files.write_json(folder / "a.json", noise.tolist()),
    lambda: files.write_array(folder / "a.npy", noise),
    lambda: files.write_png(folder / "a.png", np.random.default_rng(0).integers(0, 256, (99, 99), np.uint8)),
    *(lambda s=s: meshes.save_mesh(folder / ("a" + s), mesh) for s in (".obj", ".ply", ".stl", ".off", ".glb")),
]
for write in writers:
    try:
        write()
    except InputError as error:
        print(error)
"""


@POSIX
def test_a_full_disk_is_one_sentence_for_every_writer(tmp_path: Path) -> None:
    """A limit of 1000 bytes for every file stands for the disk."""
    run = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert len(lines) == 8 and all("the file would be larger than this system allows" in line for line in lines)
    assert not list(tmp_path.iterdir())
