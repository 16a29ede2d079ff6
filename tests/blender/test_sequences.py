"""Sequences: which picture a view sees in a frame, and the scene as it is then; nothing of the artist's changes."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from .conftest import armature_of, give_sequences, optimize, part, read_job, read_mask, write_png

FRAMES = (1, 2, 3, 4)


def picture(number: int) -> np.ndarray:
    """(24, 32) a mask of which one can tell the number and the way up."""
    mask = np.zeros((24, 32))
    mask[4:10, 4 * number : 4 * number + 4] = 1
    return mask


@pytest.fixture
def moving(arm: bpy.types.Object, tmp_path: Path) -> bpy.types.Object:
    """The arm, its pose to be fitted, with an image sequence for each view."""
    give_sequences(bpy.context.scene, tmp_path, {frame: [picture(frame)] * 3 for frame in FRAMES})
    optimize("pose")
    return arm


@pytest.fixture
def movie(moving: bpy.types.Object, tmp_path: Path) -> bpy.types.Image:
    """A movie of four pictures, 32 x 24."""
    scene = bpy.data.scenes.new("Cutting room")
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = 32, 24, 100
    scene.frame_start, scene.frame_end, render.filepath = 1, len(FRAMES), str(tmp_path / "movie.mp4")
    scene.view_settings.view_transform = "Standard"
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strip = strips.new_image("Pictures", str(tmp_path / "view0_0001.png"), 1, 1)
    for number in FRAMES[1:]:
        strip.elements.append(f"view0_{number:04d}.png")
    if bpy.app.version >= (5, 0):
        render.image_settings.media_type = "VIDEO"
    render.image_settings.file_format = "FFMPEG"
    render.ffmpeg.format, render.ffmpeg.codec, render.ffmpeg.constant_rate_factor = "MPEG4", "H264", "LOSSLESS"
    with bpy.context.temp_override(scene=scene):
        bpy.ops.render.render(animation=True, scene=scene.name)
    bpy.data.scenes.remove(scene)
    image = bpy.data.images.load(str(tmp_path / "movie.mp4"))
    assert image.source == "MOVIE"
    return image


def counts() -> tuple[int, ...]:
    data = bpy.data
    return len(data.images), len(data.textures), len(data.scenes), len(data.objects), len(data.actions)


def shown(job) -> dict[tuple[str, int], int]:
    """The picture that each view shows in each frame."""
    found = {}
    for view in job.job.views:
        rows, columns = np.nonzero(view.mask)
        assert (rows.min(), rows.max()) == (4, 9)
        found[view.name, view.frame] = int(columns.min()) // 4
    return found


def test_each_frame_shows_its_picture(moving: bpy.types.Object, tmp_path: Path) -> None:
    scene = bpy.context.scene
    scene.frame_set(7)
    views = scene.softras.views
    views[1].frame_start = 3  # its first picture is in frame 3
    views[2].frame_offset = 1
    before = counts()
    job = read_job(scene)
    assert counts() == before and scene.frame_current == 7
    assert shown(job) == {
        **{("Camera 0", frame): frame for frame in FRAMES},
        **{("Camera 1", frame): frame - 2 for frame in (3, 4)},
        **{("Camera 2", frame): frame + 1 for frame in (1, 2, 3)},
    }
    assert "View 'Camera 1' has no mask in frames 1–2." in job.notes
    assert "View 'Camera 2' has no mask in frame 4." in job.notes
    photos = [view.photo for view in job.job.views if view.name == "Camera 1"]
    assert photos == [tmp_path / "view1_0001.png", tmp_path / "view1_0002.png"]
    assert [view.frame for view in job.job.views] == sorted(view.frame for view in job.job.views)


def test_the_step(moving: bpy.types.Object) -> None:
    bpy.context.scene.softras.frame_step = 2
    assert read_job(bpy.context.scene).frames == [1, 3]


def test_without_a_sequence_the_current_frame_is_read(moving: bpy.types.Object) -> None:
    scene = bpy.context.scene
    scene.softras.sequence = False
    scene.frame_set(3)
    assert set(shown(read_job(scene)).values()) == {3}
    scene.frame_set(9)
    with pytest.raises(ValueError, match="has no picture 9 to show in frame 9; go to another frame"):
        read_job(scene)


def test_frames_without_a_mask_are_left_out_and_named(moving: bpy.types.Object, tmp_path: Path) -> None:
    scene = bpy.context.scene
    (tmp_path / "view0_0002.png").unlink()
    (tmp_path / "view0_0001.png").write_text("no picture")
    write_png(tmp_path / "view0_0003.png", np.zeros((24, 32)))
    for item in (1, 2):
        (tmp_path / f"view{item}_0002.png").unlink()
    job = read_job(scene)
    assert [shot.frame for shot in job.shots if shot.item == 0] == [4]
    assert "View 'Camera 0' has no mask in frames 1–3." in job.notes
    assert "No view has a mask in frame 2; no keyframes are made there." in job.notes
    for file in tmp_path.glob("*.png"):
        file.unlink()
    with pytest.raises(ValueError, match="no view has a mask in frames 1–4; check the images' files"):
        read_job(scene)


def test_movies(moving: bpy.types.Object, movie: bpy.types.Image) -> None:
    scene = bpy.context.scene
    item = scene.softras.views[0]
    item.mask = movie
    item.frame_start = 2
    before = counts()
    job = read_job(scene)
    assert counts() == before
    assert [shown(job)["Camera 0", frame] for frame in (2, 3, 4)] == [1, 2, 3]
    assert "View 'Camera 0' has no mask in frame 1." in job.notes
    item.frame_start = -2
    assert [shown(read_job(scene))["Camera 0", 1]] == [4]
    # Not only by going forwards.
    for number in (3, 1, 4, 2):
        assert np.nonzero(read_mask(movie, "grey", 0.5, number=number))[1].min() == 4 * number


@pytest.mark.parametrize("way", ["background", "active clip", "button"])
@pytest.mark.parametrize("kind", ["movie", "sequence"])
def test_movie_clips(moving: bpy.types.Object, movie: bpy.types.Image, tmp_path: Path, kind: str, way: str) -> None:
    """A clip shows its own first picture in its start frame, also when its file is not the first of a sequence."""
    scene = bpy.context.scene
    name, first = ("movie.mp4", 1) if kind == "movie" else ("view0_0002.png", 2)
    clip = bpy.data.movieclips.load(str(tmp_path / name))
    clip.frame_start, clip.frame_offset = 3, 1
    camera = scene.softras.views[0].camera
    if way == "button":
        scene.softras.active_view = 0
        assert bpy.ops.softras.view_clip(clip=clip.name) == {"FINISHED"}
    else:
        background = camera.data.background_images.new()
        background.source, background.use_camera_clip = "MOVIE_CLIP", way == "active clip"
        if way == "active clip":
            scene.active_clip = clip
        else:
            background.clip = clip
        scene.softras.views.remove(0)
        assert bpy.ops.softras.views_from_cameras() == {"FINISHED"}
    assert {frame: number for (view, frame), number in shown(read_job(scene)).items() if view == camera.name} == {
        frame: first + 1 + frame - 3 for frame in FRAMES if 1 <= first + 1 + frame - 3 <= 4
    }


def test_a_movie_clip_that_is_gone(moving: bpy.types.Object, tmp_path: Path) -> None:
    scene = bpy.context.scene
    clip = bpy.data.movieclips.load(str(tmp_path / "view0_0001.png"))
    clip.filepath = str(tmp_path / "gone.png")
    before = scene.softras.views[0].mask
    with pytest.raises(RuntimeError, match="movie clip 'view0_0001.png' cannot be read from .*gone.png; check"):
        bpy.ops.softras.view_clip(clip=clip.name)
    with pytest.raises(RuntimeError, match="There is no movie clip 'other'"):
        bpy.ops.softras.view_clip(clip="other")
    assert scene.softras.views[0].mask == before


def test_a_sequence_and_a_movie_without_alpha_are_read_by_their_grey(
    moving: bpy.types.Object, movie: bpy.types.Image
) -> None:
    scene = bpy.context.scene
    sequence = scene.softras.views[0].mask
    camera = scene.softras.views[0].camera
    for image in (sequence, movie):
        scene.softras.views.clear()
        camera.data.background_images.clear()
        background = camera.data.background_images.new()
        background.image = image
        background.image_user.frame_start, background.image_user.frame_offset = 5, 2
        assert bpy.ops.softras.views_from_cameras() == {"FINISHED"}
        (item,) = scene.softras.views
        assert item.channel == "AUTO"
        np.testing.assert_array_equal(read_mask(image) > 0.5, picture(1))
        assert (item.frame_start, item.frame_offset) == (5, 2)


def test_the_alpha_of_a_sequence_counts_in_every_picture(scene: bpy.types.Scene, tmp_path: Path) -> None:
    """The object fills the second picture, which is opaque everywhere then; its colours are no mask for all that."""
    for number, alpha in ((1, np.eye(4)), (2, np.ones((4, 4)))):
        image = bpy.data.images.new("Cut out", 4, 4, alpha=True)
        pixels = np.full((4, 4, 4), 0.25, dtype=np.float32)
        pixels[..., 3] = alpha[::-1]
        image.pixels.foreach_set(pixels.ravel())
        image.filepath_raw, image.file_format = str(tmp_path / f"cut_{number:04d}.png"), "PNG"
        image.save()
    image = bpy.data.images.load(str(tmp_path / "cut_0001.png"))
    image.source = "SEQUENCE"
    for number, wanted in ((2, np.ones((4, 4))), (1, np.eye(4)), (2, np.ones((4, 4)))):
        np.testing.assert_array_equal(read_mask(image, number=number), wanted)


def test_a_soft_picture_without_the_object_is_no_mask(moving: bpy.types.Object, tmp_path: Path) -> None:
    """Films and JPEG files are never quite black."""
    write_png(tmp_path / "view0_0003.png", np.full((24, 32), 0.02))
    assert "View 'Camera 0' has no mask in frame 3." in read_job(bpy.context.scene).notes


def test_cameras_move_with_time_and_edits_without_a_key_stay(moving: bpy.types.Object) -> None:
    """The camera through a moving parent, a constraint to an animated goal and a lens; the scene stays at its frame."""
    scene = bpy.context.scene
    camera = scene.softras.views[0].camera
    mount, goal = (bpy.data.objects.new(name, None) for name in ("Mount", "Goal"))
    for ob in (mount, goal):
        scene.collection.objects.link(ob)
    camera.parent = mount
    camera.constraints.new("TRACK_TO").target = goal
    for frame in (1, 4):
        for owner, path, value in ((mount, "location", (0, 0, frame)), (goal, "location", (frame, 0, 1))):
            setattr(owner, path, value)
            owner.keyframe_insert(path, frame=frame)
        camera.data.lens = 40 + frame
        camera.data.keyframe_insert("lens", frame=frame)
    scene.frame_set(2)
    mount.location.x = 7
    armature_of(moving).pose.bones[1].location.x = 0.25
    calls: list[str] = []
    bpy.app.handlers.frame_change_pre.append(lambda changed, _: calls.append(changed.name))
    try:
        job = read_job(scene)
    finally:
        bpy.app.handlers.frame_change_pre.clear()
    assert scene.name not in calls
    assert scene.frame_current == 2 and mount.location.x == 7
    found = {shot.frame: shot.engine_camera for shot in job.shots if shot.item == 0}
    others = [shot.engine_camera for shot in job.shots if shot.item == 1]
    for frame in FRAMES:
        scene.frame_set(frame)
        truth = part("scene.camera").camera_from_blender(camera, 32, 24, scene.render)
        np.testing.assert_allclose(found[frame].world_to_camera, truth.world_to_camera, atol=1e-5)
        np.testing.assert_allclose(found[frame].K, truth.K, rtol=1e-6)
    for other in others[1:]:  # the engine takes equal cameras for one
        assert np.array_equal(other.K, others[0].K)
        assert np.array_equal(other.world_to_camera, others[0].world_to_camera)


def key_channel(owner, path: str, first, last) -> None:
    for frame, value in ((1, first), (4, last)):
        setattr(owner, path, value)
        owner.keyframe_insert(path, frame=frame)


def moves():
    """(what to animate that is not fitted, what the sentence says)."""

    def bone_scale(target, armature, scene):
        key_channel(armature.pose.bones["Bone 1"], "scale", (1, 1, 1), (1, 2, 1))

    def bone_location(target, armature, scene):
        key_channel(armature.pose.bones["Bone 1"], "location", (0, 0, 0), (0, 0.2, 0))

    def locked_bone(target, armature, scene):
        armature.pose.bones["Bone 2"].lock_rotation = True, True, True
        key_channel(armature.pose.bones["Bone 2"], "rotation_quaternion", (1, 0, 0, 0), (1, 0.2, 0, 0))

    def whole(target, armature, scene):
        key_channel(armature, "location", (0, 0, 0), (0, 1, 0))

    def inside(target, armature, scene):
        key_channel(target, "location", (0, 0, 0), (0, 1, 0))

    def key(target, armature, scene):
        key_channel(target.data.shape_keys.key_blocks["Wide"], "value", 0, 1)

    def parent(target, armature, scene):
        optimize("pose", "object")
        armature.parent = bpy.data.objects.new("Cart", None)
        scene.collection.objects.link(armature.parent)
        key_channel(armature.parent, "location", (0, 0, 0), (0, 1, 0))

    def pose(target, armature, scene):
        optimize("object")
        key_channel(armature.pose.bones["Bone 2"], "rotation_quaternion", (1, 0, 0, 0), (1, 0.2, 0, 0))

    def cameras_alone(target, armature, scene):
        optimize("cameras")
        key_channel(armature.pose.bones["Bone 2"], "rotation_quaternion", (1, 0, 0, 0), (1, 0.2, 0, 0))

    return [
        (bone_scale, "bone 'Bone 1' is different in frame"),
        (bone_location, "bone 'Bone 1' is different in frame"),
        (locked_bone, "bone 'Bone 2' is different in frame"),
        (whole, "the transform of 'Rig' is different in frame"),
        (inside, "the transform of 'Arm' is different in frame"),
        (key, "shape key 'Wide' is different in frame"),
        (parent, "the parent of 'Rig' is different in frame"),
        (pose, "bone 'Bone 2' is different in frame"),
        (cameras_alone, "'Arm' is different in frame"),
    ]


@pytest.mark.parametrize(("animate", "sentence"), moves())
def test_what_is_not_fitted_must_stand_still(moving: bpy.types.Object, animate, sentence: str) -> None:
    scene = bpy.context.scene
    read_job(scene)
    animate(moving, armature_of(moving), scene)
    scene.frame_set(1)
    with pytest.raises(ValueError, match=sentence):
        read_job(scene)
    assert len(bpy.data.scenes) == 1


def test_what_is_fitted_may_have_moved(moving: bpy.types.Object) -> None:
    """Its keyframes are what the fit replaces."""
    armature = armature_of(moving)
    optimize("pose", "object", "shape_keys")
    key_channel(armature.pose.bones["Bone 1"], "rotation_quaternion", (1, 0, 0, 0), (1, 1, 0, 0))
    key_channel(armature.pose.bones["Bone 0"], "location", (0, 0, 0), (1, 1, 0))
    key_channel(armature, "location", (0, 0, 0), (1, 1, 0))
    key_channel(moving.data.shape_keys.key_blocks["Wide"], "value", 0, 1)
    bpy.context.scene.frame_set(1)
    assert read_job(bpy.context.scene).frames == list(FRAMES)


def test_the_known_pose_is_that_of_the_current_frame(moving: bpy.types.Object) -> None:
    scene = bpy.context.scene
    assert "known_frame" not in read_job(scene).job.settings
    scene.softras.known_pose = True
    scene.frame_set(3)
    assert read_job(scene).job.settings["known_frame"] == 3
    scene.frame_set(8)
    with pytest.raises(ValueError, match="frame 8 is not among those that are fitted"):
        read_job(scene)
    scene.softras.sequence = False  # it means nothing there
    scene.frame_set(2)
    assert "known_frame" not in read_job(scene).job.settings


def test_still_images_are_no_sequence(moving: bpy.types.Object) -> None:
    bpy.context.scene.softras.views[1].mask.source = "FILE"
    with pytest.raises(ValueError, match="the mask of view 'Camera 1' is a still image; make it an image sequence"):
        read_job(bpy.context.scene)


def test_an_action_mixed_with_strips_is_refused(moving: bpy.types.Object) -> None:
    armature = armature_of(moving)
    key_channel(armature.pose.bones["Bone 1"], "rotation_quaternion", (1, 0, 0, 0), (1, 1, 0, 0))
    animation = armature.animation_data
    animation.nla_tracks.new().strips.new("Walk", 1, animation.action)
    read_job(bpy.context.scene)
    animation.action_blend_type = "ADD"
    with pytest.raises(ValueError, match="the action of 'Rig' is mixed with its NLA strips"):
        read_job(bpy.context.scene)
