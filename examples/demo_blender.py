"""The main job in headless Blender: install the extension, make a scene from photographs, fit, save.

    python examples/demo_blender.py [options]                              with a Python that has bpy
    blender -b --factory-startup -P examples/demo_blender.py -- [options]  with the application

Without options it fits the cow of examples/data/spot. SOFTRAS_PYTHON names the engine's interpreter. Leaves
fitted.blend, fitted.obj and report/ in the output folder. Exit status 0 when the fit succeeded.

The module gets a Blender user folder of its own. The application has read BLENDER_USER_RESOURCES before this script
runs: set it yourself to keep the extension out of your own Blender.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPOT = ROOT / "examples" / "data" / "spot"
MODULE = "bl_ext.user_default.softras"


def main() -> None:
    """Run the whole demonstration."""
    options = parse(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:])
    with tempfile.TemporaryDirectory() as resources:
        if "bpy" not in sys.modules:  # Blender's user folder for this run; read when bpy starts
            os.environ["BLENDER_USER_RESOURCES"] = resources
        import bpy

        try:
            demonstrate(bpy, options)
        finally:
            if MODULE in bpy.context.preferences.addons:
                bpy.ops.preferences.addon_disable(module=MODULE)


def demonstrate(bpy, options: argparse.Namespace) -> None:
    """Install, read, fit, save, with the user interface's own operators."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    if MODULE not in bpy.context.preferences.addons:
        bpy.ops.extensions.package_install_files(filepath=str(options.zip), repo="user_default", enable_on_install=True)
    bpy.context.preferences.addons[MODULE].preferences.python = str(options.engine_python)
    print(f"Blender {bpy.app.version_string}; installed {options.zip.name}", flush=True)

    scene = bpy.context.scene
    bpy.ops.softras.views_import(directory=str(options.views))
    bpy.ops.wm.obj_import(filepath=str(options.mesh), forward_axis="Y", up_axis="Z")
    scene.softras.target = bpy.context.selected_objects[0]
    scene.softras.seconds = options.seconds

    options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    bpy.ops.softras.fit(report_folder=str(options.out / "report"))
    print(f"Fitted in {time.monotonic() - started:.1f} s, engine start included")
    views = [item for item in scene.softras.views if item.enabled]
    for item in views:
        print(f"IoU {item.iou:.4f}  {item.camera.name}")
    print(f"IoU {sum(item.iou for item in views) / len(views):.4f}  mean")

    bpy.ops.file.pack_all()  # masks and photographs travel inside the .blend
    bpy.ops.wm.save_as_mainfile(filepath=str(options.out / "fitted.blend"))
    bpy.ops.object.select_all(action="DESELECT")
    scene.softras.target.select_set(True)
    bpy.ops.wm.obj_export(
        filepath=str(options.out / "fitted.obj"),
        export_selected_objects=True,
        export_materials=False,
        forward_axis="Y",
        up_axis="Z",
    )
    print(f"Wrote fitted.blend, fitted.obj and report/report.html to {options.out}", flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options, paths made absolute."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--zip", type=Path, help="the extension; default: the newest dist/softras-*.zip")
    parser.add_argument("--engine-python", type=Path, default=os.environ.get("SOFTRAS_PYTHON"))
    parser.add_argument("--views", type=Path, default=SPOT, help="folder with a cameras.json")
    parser.add_argument("--mesh", type=Path, default=SPOT / "start.obj", help="an .obj to start from")
    parser.add_argument("--out", type=Path, default=ROOT / "out")
    parser.add_argument("--seconds", type=float, default=20.0, help="time limit of the fit; 0 for none")
    options = parser.parse_args(arguments)
    built = sorted((ROOT / "dist").glob("softras-*.zip"), key=lambda path: path.stat().st_mtime)
    if options.zip is None and not built:
        parser.error("there is no dist/softras-*.zip; run build_addon.py first, or name one with --zip.")
    if options.engine_python is None:
        parser.error("name the engine's Python with --engine-python or SOFTRAS_PYTHON.")
    options.zip = options.zip or built[-1]
    for name in ("zip", "views", "mesh", "out"):
        setattr(options, name, getattr(options, name).absolute())
    # Not resolved: an environment's python is a link, and where it lies makes it that environment.
    options.engine_python = options.engine_python.absolute()
    return options


if __name__ == "__main__":
    main()
