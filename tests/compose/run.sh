#!/usr/bin/env bash
# Runs docs/docker-compose.md: `make compose`, a change of the policies while Envoy runs, `make compose-login`,
# `make compose-redis`, and `make compose-down`.
#
# Where there is no Docker, it installs Debian's packages, as root. Where no daemon runs, it starts one of its own. Where no
# registry can be reached, stand-in.sh makes the image. It ends and removes what it has started and made.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if ! command -v dockerd >/dev/null || ! { docker compose version || command -v docker-compose; } >/dev/null 2>&1; then
    echo "compose: installing Docker" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io docker-compose iptables >/dev/null
fi

if ! command -v redis-server >/dev/null; then
    echo "compose: installing Redis" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server >/dev/null
fi

work=$(mktemp -d)
daemon=
images=
tidy() {
    make --no-print-directory compose-down >"$work/down" 2>&1 || cat "$work/down" >&2
    for image in $images; do docker image rm "$image" >/dev/null || true; done
    if [ -n "$daemon" ]; then
        kill "$daemon"
        wait "$daemon" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap tidy EXIT

if ! docker info >/dev/null 2>&1; then
    echo "compose: starting a Docker daemon" >&2
    export DOCKER_HOST="unix://$work/docker.sock"
    # Without a bridge of its own: the containers get that of docker-compose.
    dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" --bridge none --host "$DOCKER_HOST" \
        >"$work/log" 2>&1 &
    daemon=$!
    for _ in $(seq 150); do
        docker info >/dev/null 2>&1 && break
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.2
    done
    docker info >/dev/null 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
fi
images=$(tests/compose/stand-in.sh)

status() { # port, path, further arguments of curl
    local port=$1 path=$2
    shift 2
    curl --silent --output /dev/null --max-time 5 --write-out '%{http_code}' "$@" "http://127.0.0.1:$port$path" || true
}
expect() { # what, the wanted statuses
    local what=$1 wanted=$2 got
    for _ in $(seq 50); do
        got="$(status 15001 /api/v1/data) $(status 15001 /api/v1/data --request POST) $(status 15002 /api/v1/data)"
        [ "$got" = "$wanted" ] && return
        sleep 0.2
    done
    echo "compose: $what: $got, and not $wanted" >&2
    exit 1
}

make --no-print-directory compose
expect "the tutorial's policies" "200 403 403"

# The page's change, by the page's command.
policies=target/compose/policies
sed -i 's/methods: \["GET"\]/methods: ["GET", "POST"]/' "$policies/allow-frontend-get-data.yaml"
change=$(sed -n 's/^\$ \(target\/release\/mesh-authz render ecds .*\)/\1/p' docs/docker-compose.md)
started() { docker inspect --format '{{.State.StartedAt}}' "$(docker ps --quiet --filter name=backend)"; }
before=$(started)
bash -c "$change"
expect "after the change" "200 200 403"

# A mistake changes nothing.
sed -i 's/methods:/method:/' "$policies/allow-frontend-get-data.yaml"
if bash -c "$change" 2>/dev/null; then
    echo "compose: a mistake is accepted" >&2
    exit 1
fi
expect "after a mistake" "200 200 403"
[ "$(started)" = "$before" ] || { echo "compose: the backend has been restarted" >&2; exit 1; }

# Only what the page says is published, and each container is healthy and runs as nobody.
published=$(docker ps --format '{{.Ports}}' | tr ',' '\n' | sed 's/^ *//; s/->.*//; /^$/d' | sort | tr '\n' ' ')
[ "$published" = "127.0.0.1:15001 127.0.0.1:15002 " ] || { echo "compose: published: $published" >&2; exit 1; }
for container in $(docker ps --quiet); do
    for _ in $(seq 100); do
        health=$(docker inspect --format '{{.State.Health.Status}}' "$container")
        [ "$health" = healthy ] && break
        sleep 0.2
    done
    user=$(docker inspect --format '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}}' "$container")
    [ "$health $user" = "healthy 65532:65532 true" ] || { echo "compose: $container: $health $user" >&2; exit 1; }
done
[ "$(docker ps --quiet | wc -l)" = 4 ] || { docker ps >&2; exit 1; }

# The login: with a cookie jar, curl does what a browser does. Nobody but the login says who that is.
make --no-print-directory compose-login
jar=$work/jar
logged_in() { # path, further arguments of curl
    local path=$1
    shift
    status 15004 "$path" --location --cookie "$jar" --cookie-jar "$jar" "$@"
}
for _ in $(seq 100); do
    [ "$(status 15004 /orders/7)" = 302 ] && break
    sleep 0.2
done
got="$(status 15004 /healthz) $(status 15004 /orders/7) $(status 15004 /orders/7 --header 'x-auth-request-email: alice@example.com')"
[ "$got" = "200 302 302" ] || { echo "compose: without a login: $got" >&2; docker ps >&2; exit 1; }
got="$(logged_in /orders/7) $(logged_in /orders/7 --request PUT) $(logged_in /orders/7 --request PUT --header 'x-auth-request-email: alice@example.com')"
[ "$got" = "200 403 403" ] || { echo "compose: after a login: $got" >&2; exit 1; }
published=$(docker ps --format '{{.Ports}}' | tr ',' '\n' | sed 's/^ *//; s/->.*//; /^$/d' | sort | tr '\n' ' ')
[ "$published" = "127.0.0.1:15001 127.0.0.1:15002 127.0.0.1:15004 127.0.0.1:15008 " ] ||
    { echo "compose: published with the login: $published" >&2; exit 1; }

# Redis: one caller may use it, and the other gets nothing.
make --no-print-directory compose-redis
redis() { # port, command
    { exec 3<>"/dev/tcp/127.0.0.1/$1" && printf '%s\r\n' "$2" >&3 && timeout 3 head -n 1 <&3 | tr -d '\r'; } 2>/dev/null || true
}
for _ in $(seq 100); do
    [ "$(redis 15005 PING)" = "+PONG" ] && break
    sleep 0.2
done
got="$(redis 15005 'SET session:7 alice') $(redis 15007 'DEL session:7') $(redis 15005 'EXISTS session:7')"
[ "$got" = "+OK  :1" ] || { echo "compose: Redis: $got" >&2; docker ps >&2; exit 1; }
docker logs "$(docker ps --quiet --filter name=sessions)" 2>&1 | grep -q '"decision":"DENY".*default/sa/stranger' ||
    { echo "compose: the refusal is not logged" >&2; exit 1; }
make --no-print-directory compose-down >/dev/null 2>&1
[ -z "$(docker ps --quiet)" ] || { docker ps >&2; exit 1; }
echo "compose: everything that docs/docker-compose.md says holds"
