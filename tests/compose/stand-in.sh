#!/usr/bin/env bash
# Makes an image that stands in for the one in envoy/docker-compose.yaml, where no registry can be reached: the Envoy of
# find-envoy.sh, and the bash that the health checks need, with their libraries. Prints the image's name if it made one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

image=$(sed -n 's/^  image: //p' envoy/docker-compose.yaml)
if docker image inspect "$image" >/dev/null 2>&1; then
    echo "stand-in: the image $image is there already" >&2
    exit
fi
if timeout 20 docker pull --quiet "$image" >/dev/null 2>&1; then
    echo "stand-in: pulled $image" >&2
    exit
fi
echo "stand-in: no registry has $image; an image with the Envoy of find-envoy.sh stands in for it" >&2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
add() { # file, path in the image
    install -D --mode=755 "$1" "$root/$2"
    ldd "$1" | grep --only-matching '/[^ ]*' | sort -u | while read -r library; do
        install -D --mode=755 "$library" "$root/$library"
    done
}
add "$(envoy/find-envoy.sh)" /usr/local/bin/envoy
add "$(command -v bash)" /bin/bash
printf 'FROM scratch\nENV PATH=/usr/local/bin:/bin\nCOPY . /\n' > "$root/Dockerfile"
printf 'Dockerfile\nlog\n' > "$root/.dockerignore"
# The classic builder needs no plugin of Docker.
DOCKER_BUILDKIT=0 docker build --quiet --tag "$image" "$root" >"$root/log" 2>&1 || { cat "$root/log" >&2; exit 1; }
echo "$image"
