#!/bin/bash
# Tests of the user interface in the real Blender application, worked by real mouse and keyboard events.
#
#   SOFTRAS_PYTHON=/path/to/engine/python tests/app/run.sh
#
# Needs root and apt. A Debian sid system with Blender, Xvfb and software OpenGL is made once in SOFTRAS_APP_ROOT
# (default: ~/.cache/softras-app; 3 minutes, 1.3 GB). Pictures of the panel are left in out/app.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
root=${SOFTRAS_APP_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/softras-app}
python=${SOFTRAS_PYTHON:?name the engine\'s Python}

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "skipped: these tests need Debian or Ubuntu, and root"
  exit 0
fi
# All mounts live in a namespace of this script and go with it.
if [ -z "${SOFTRAS_APP_NAMESPACE:-}" ]; then
  SOFTRAS_APP_NAMESPACE=1 exec unshare --mount --propagation private -- "$0" "$@"
fi

inside() { # run a command inside the system with a clean environment
  chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 LIBGL_ALWAYS_SOFTWARE=1 \
    DEBIAN_FRONTEND=noninteractive "$@"
}

show() { # make a folder of this machine visible inside, at the same path
  mkdir -p "$root$1"
  mount --bind "$1" "$root$1"
}

make_system() {
  command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap; } >"$root.log" 2>&1
  if [ ! -x "$root/usr/bin/apt-get" ]; then
    # The mirror this machine uses, where that is one of Debian's; else debootstrap's own choice.
    mirror=$(. /etc/os-release && [ "$ID" = debian ] &&
      apt-get indextargets --format '$(REPO_URI)' "Codename: $VERSION_CODENAME" | head -n 1 || true)
    rm -rf "$root" # a half-made one cannot be continued
    debootstrap --variant=minbase sid "$root" ${mirror:+"$mirror"} >>"$root.log" 2>&1
  fi
  mountpoint -q "$root/proc" || for folder in /proc /sys /dev; do show "$folder"; done
  [ -e "$root/made" ] && return
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no services
  chmod +x "$root/usr/sbin/policy-rc.d"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  # cattr and requests: Debian's Blender leaves out what its own extension system imports.
  inside apt-get install -y --no-install-recommends blender python3-numpy python3-cattr python3-requests \
    xvfb libgl1-mesa-dri libegl1 libegl-mesa0 libgl1 libglx-mesa0 imagemagick >>"$root.log" 2>&1
  inside apt-get clean
  touch "$root/made"
}

mkdir -p "$(dirname "$root")"
make_system || { tail -n 20 "$root.log"; echo "the system for the tests could not be made; its log is $root.log"; exit 1; }
"$python" -c 'import sys; print(sys.prefix, sys.base_prefix, sep="\n")' | sort -u | while read -r folder; do show "$folder"; done
show "$repository"
rm -rf "$repository/out/app"
mkdir -p "$repository/out/app"
archive=$(ls -t "$repository"/dist/softras-*.zip | head -n 1)
inside "$here/inside.sh" "$archive" "$python" "$repository/out/app"
