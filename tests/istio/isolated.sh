#!/usr/bin/env bash
# Runs a command in namespaces of its own: network, mounts and processes. What the command starts ends with it.
#
#   isolated.sh COMMAND…
set -euo pipefail

if [ "${MESH_ISOLATED:-}" = inside ]; then
    # Agents and `ip netns` write to fixed places below these folders.
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /var/lib
    ip link set lo up
    # Tests hold many connections open.
    ulimit -n "$(ulimit -Hn)"
    export MESH_ISOLATED=yes
    exec "$@"
fi

for program in unshare ip mount; do
    command -v "$program" >/dev/null || {
        echo "A program that makes namespaces is missing: $program. Debian's packages util-linux, iproute2 and mount have it." >&2
        exit 1
    }
done
options=(--net --mount --pid --fork --kill-child --mount-proc)
[ "$(id -u)" = 0 ] || options+=(--user --map-root-user)
unshare "${options[@]}" true || {
    echo "This machine does not let this user make namespaces. Run the command as root, or allow user namespaces." >&2
    exit 1
}
MESH_ISOLATED=inside exec unshare "${options[@]}" "$0" "$@"
