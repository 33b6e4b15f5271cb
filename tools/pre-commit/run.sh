#!/bin/sh
# Runs the command mesh-authz for a hook of pre-commit. The first run downloads it into a cache.
set -eu
here=$(dirname "$0")
version=$(sed -n 's/.*MESH_AUTHZ_VERSION:-\(.*\)}$/\1/p' "$here/../../install.sh")
MESH_AUTHZ_FOLDER=${XDG_CACHE_HOME:-$HOME/.cache}/mesh-authz/$version
export MESH_AUTHZ_FOLDER
[ -x "$MESH_AUTHZ_FOLDER/mesh-authz" ] || "$here/../../install.sh" >&2
exec "$MESH_AUTHZ_FOLDER/mesh-authz" "$@"
