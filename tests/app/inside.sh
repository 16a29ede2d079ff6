#!/bin/bash
# inside.sh ARCHIVE PYTHON OUT: install the extension, start Blender under Xvfb and work it. Runs in the test system.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
archive=$1 python=$2 out=$3
HOME=$(mktemp -d)
export HOME XDG_RUNTIME_DIR=$HOME BLENDER_USER_RESOURCES=$HOME/blender SOFTRAS_PYTHON=$python
mkdir "$BLENDER_USER_RESOURCES"

blender --command extension install-file -r user_default -e "$archive" >"$out/install.log" 2>&1 || { cat "$out/install.log"; exit 1; }
blender -b --python-exit-code 1 -P "$here/preferences.py" >>"$out/install.log" 2>&1 || { cat "$out/install.log"; exit 1; }
"$here/headless.sh" "$archive" "$out"

Xvfb -displayfd 3 -screen 0 1280x800x24 -nolisten tcp 3>"$HOME/display" 2>/dev/null &
server=$!
trap 'kill $server' EXIT
for _ in $(seq 100); do [ -s "$HOME/display" ] && break; sleep 0.1; done
DISPLAY=:$(cat "$HOME/display")
export DISPLAY
status=0
timeout 900 blender -p 0 0 1280 800 --enable-event-simulate -P "$here/drive.py" -- "$out" >"$out/drive.log" 2>&1 || status=$?
grep -E '^(ok|FAILED|[0-9]+ passed)|Error' "$out/drive.log" || tail -n 30 "$out/drive.log"
if grep -q Traceback "$out/drive.log"; then
  echo "FAILED something raised an error, maybe while it was drawn"
  grep -A 15 Traceback "$out/drive.log" | head -n 40
  status=1
fi
# Blender has quit: so must its engine have.
engine=$(cat "$out/engine.pid")
for _ in $(seq 50); do [ -e "/proc/$engine" ] || break; sleep 0.1; done
if [ -e "/proc/$engine" ]; then
  echo "FAILED the engine outlived Blender"
  status=1
fi
exit "$status"
