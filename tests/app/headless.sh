#!/bin/bash
# headless.sh ARCHIVE OUT: the ways without a window, with the application itself: a script, and the command of the extension.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
archive=$1 out=$2
examples=$(cd "$here/../../examples" && pwd)

fail() {
  echo "FAILED $1"
  tail -n 30 "$out/headless.log"
  exit 1
}

blender -b --python-exit-code 1 -P "$here/make_scene.py" -- "$out/start.blend" >"$out/headless.log" 2>&1 || fail "make a scene"
blender -b "$out/start.blend" --python-exit-code 3 --python-expr "import bpy; bpy.ops.softras.fit()" >>"$out/headless.log" 2>&1 ||
  fail "a script fits"
echo "ok a script fits, exit status 0"
status=0
blender -b "$out/start.blend" --python-exit-code 3 \
  --python-expr "import bpy; bpy.context.scene.softras.views.clear(); bpy.ops.softras.fit()" >>"$out/headless.log" 2>&1 || status=$?
[ "$status" = 3 ] || fail "a script that cannot fit has the exit status for errors, not $status"
echo "ok a script that cannot fit has the exit status for errors"
blender --command softras_fit "$out/start.blend" --output "$out/fitted.blend" >>"$out/headless.log" 2>&1 || fail "the command fits"
[ -s "$out/fitted.blend" ] || fail "the command saves"
echo "ok the command fits and saves, exit status 0"
status=0
blender --command softras_fit "$out/start.blend" --object Nobody >>"$out/headless.log" 2>&1 || status=$?
[ "$status" = 2 ] || fail "the command refuses with exit status 2, not $status"
echo "ok the command refuses bad input with exit status 2"
mkdir "$HOME/demo"
BLENDER_USER_RESOURCES=$HOME/demo blender -b --factory-startup --python-exit-code 1 -P "$examples/demo_blender.py" -- \
  --zip "$archive" --engine-python "$SOFTRAS_PYTHON" --out "$out/demo" --seconds 5 >>"$out/headless.log" 2>&1 ||
  fail "the demonstration runs in the application"
[ -s "$out/demo/fitted.obj" ] && [ -s "$out/demo/report/report.html" ] || fail "the demonstration leaves its results"
echo "ok the demonstration runs in the application"
