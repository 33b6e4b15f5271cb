#!/usr/bin/env bash
# Makes images that stand in for those in envoy/docker-compose.yaml, where no registry can be reached: the Envoy of
# find-envoy.sh, with the bash that the health checks need, an oauth2-proxy that Go builds, and Debian's Redis. Prints the names of the images
# that it made.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

is_there() { # image
    if docker image inspect "$1" >/dev/null 2>&1; then
        echo "stand-in: the image $1 is there already" >&2
    elif timeout 20 docker pull --quiet "$1" >/dev/null 2>&1; then
        echo "stand-in: pulled $1" >&2
    else
        echo "stand-in: no registry has $1; an image with the same program stands in for it" >&2
        return 1
    fi
}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
add() { # folder, file, path in the image
    install -D --mode=755 "$2" "$1/$3"
    # A program without libraries has nothing to list.
    { ldd "$2" 2>/dev/null || true; } | { grep --only-matching '/[^ ]*' || true; } | sort -u | while read -r library; do
        install -D --mode=755 "$library" "$1/$library"
    done
}
build() { # folder, image, a line of its Dockerfile
    printf 'FROM scratch\nENV PATH=/usr/local/bin:/bin\nCOPY . /\n%s\n' "$3" > "$1/Dockerfile"
    printf 'Dockerfile\nlog\n' > "$1/.dockerignore"
    # The classic builder needs no plugin of Docker.
    DOCKER_BUILDKIT=0 docker build --quiet --tag "$2" "$1" >"$1/log" 2>&1 || { cat "$1/log" >&2; exit 1; }
    echo "$2"
}
image_of() { # program
    sed -n "s|^ *image: \(.*/$1:.*\)|\1|p" envoy/docker-compose.yaml
}

envoy=$(image_of envoy)
if ! is_there "$envoy"; then
    mkdir "$root/envoy"
    add "$root/envoy" "$(envoy/find-envoy.sh)" /usr/local/bin/envoy
    add "$root/envoy" "$(command -v bash)" /bin/bash
    build "$root/envoy" "$envoy" ""
fi
oauth2_proxy=$(image_of oauth2-proxy)
if ! is_there "$oauth2_proxy"; then
    mkdir -p "$root/oauth2-proxy/bin"
    (cd tests/login && CGO_ENABLED=0 go build -buildvcs=false -o "$root/oauth2-proxy/bin/oauth2-proxy" \
        github.com/oauth2-proxy/oauth2-proxy/v7)
    build "$root/oauth2-proxy" "$oauth2_proxy" 'ENTRYPOINT ["/bin/oauth2-proxy"]'
fi
redis=$(image_of redis)
if ! is_there "$redis"; then
    mkdir "$root/redis"
    add "$root/redis" "$(command -v redis-server)" /usr/local/bin/redis-server
    build "$root/redis" "$redis" ""
fi
