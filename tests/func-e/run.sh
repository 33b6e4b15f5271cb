#!/usr/bin/env bash
# Runs every command of envoy/func-e.md as it stands there, with a func-e that Go builds. func-e downloads its Envoy from
# the loopback: the Envoy of find-envoy.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command -v go >/dev/null || {
    echo "func-e: Go is missing, which builds func-e: https://go.dev/dl" >&2
    exit 1
}
work=$(mktemp -d)
background=()
tidy() {
    for process in "${background[@]}"; do kill "$process" 2>/dev/null || true; done
    wait
    rm -rf "$work" envoy.yaml
}
trap tidy EXIT
fail() {
    echo "func-e: $*" >&2
    tail -n 20 "$work"/*.log >&2 || true
    exit 1
}

echo "func-e: building func-e" >&2
(cd tests/func-e && go build -buildvcs=false -o "$work/bin/" github.com/tetratelabs/func-e/cmd/func-e)
envoy=$(envoy/find-envoy.sh)
version=$("$envoy" --version | sed -n 's|.*version: [0-9a-f]*/\([0-9.]*\)/.*|\1|p')
mkdir -p "$work/served/envoy/bin"
ln -s "$envoy" "$work/served/envoy/bin/envoy"
archive=envoy-v$version-linux-$(go env GOARCH).tar.xz
tar --create --dereference --directory "$work/served" envoy | xz -0 --threads=2 >"$work/served/$archive"

touch "$work/server.log"
# The list of versions, and the archive, from a port that the system chooses.
python3 -u - "$work/served" "$archive" "$version" "linux/$(go env GOARCH)" >"$work/server.log" 2>&1 <<'SERVER' &
import hashlib, http.server, json, os, sys
folder, archive, version, platform = sys.argv[1:]
os.chdir(folder)
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
url = f"http://127.0.0.1:{server.server_port}"
versions = {
    "versions": {version: {"releaseDate": "2026-01-01", "tarballs": {platform: f"{url}/{archive}"}}},
    "sha256sums": {archive: hashlib.sha256(open(archive, "rb").read()).hexdigest()},
}
json.dump(versions, open("versions.json", "w"))
print("serving", f"{url}/versions.json", flush=True)
server.serve_forever()
SERVER
background+=($!)
for _ in $(seq 100); do
    grep -q '^serving ' "$work/server.log" && break
    sleep 0.1
done
url=$(sed -n 's/^serving //p' "$work/server.log")
[ -n "$url" ] || fail "the server of versions has not started"
export PATH="$work/bin:$PATH" ENVOY_VERSIONS_URL=$url FUNC_E_CONFIG_HOME=$work/config FUNC_E_DATA_HOME=$work/data
export FUNC_E_STATE_HOME=$work/state FUNC_E_RUNTIME_DIR=$work/run

# Runs a command in the background until it is told to end, and waits until Envoy answers.
start() { # name, command
    bash -c "exec $2" >"$work/$1.log" 2>&1 &
    running=$!
    background+=("$running")
    for _ in $(seq 300); do
        curl --silent --output /dev/null --max-time 2 http://127.0.0.1:15000/ready && return
        kill -0 "$running" 2>/dev/null || break
        sleep 0.2
    done
    fail "$2: Envoy does not answer"
}
end() {
    kill -INT "$running"
    wait "$running" || true
}

# The commands of the page, each with the lines that it prints.
mapfile -t commands < <(awk '/^```console/ { inside = 1; next } /^```/ { inside = 0 } inside' envoy/func-e.md)
ran=0
index=0
while [ "$index" -lt "${#commands[@]}" ]; do
    command=${commands[$index]#\$ } expected=
    index=$((index + 1))
    while [ "$index" -lt "${#commands[@]}" ] && [[ ${commands[$index]} != '$ '* ]]; do
        expected+="${commands[$index]}"$'\n'
        index=$((index + 1))
    done
    ran=$((ran + 1))
    echo "func-e: \$ $command" >&2
    case $command in
    'func-e run '*)
        [ -z "${running:-}" ] || end
        start "run-$ran" "$command"
        ;;
    'func-e use '*)
        end
        # The page names one version, and the Envoy that is there may be another.
        bash -c "${command% *} $version" >"$work/use.log" 2>&1 || fail "$command"
        ;;
    *)
        printed=$(bash -c "$command" 2>"$work/command.log") || fail "$command"
        # What is built prints how long it takes.
        [[ $command = make* ]] || [ "$printed" = "${expected%$'\n'}" ] || fail "$command: $printed, and not ${expected%$'\n'}"
        ;;
    esac
done
[ "$ran" -ge 8 ] || fail "the page has only $ran commands"

# What the page says of the reasons: each line up to its first ellipsis.
while IFS= read -r line; do
    grep --quiet --fixed-strings -- "${line%%…*}" "$work/run-2.log" || fail "the log lacks $line"
done < <(awk '/^```text/ { inside = 1; next } /^```/ { inside = 0 } inside' envoy/func-e.md)

# find-envoy.sh takes the Envoy that func-e has.
ENVOY='' ENVOY_VERSION='' envoy/find-envoy.sh 2>"$work/find.log" | grep --quiet "^$work/" || fail "find-envoy.sh finds another Envoy"
echo "func-e: everything that envoy/func-e.md says holds"
