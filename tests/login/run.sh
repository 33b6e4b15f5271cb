#!/usr/bin/env bash
# Builds oauth2-proxy by Go, and runs the end-to-end test of examples/login with it. $ENVOY is the Envoy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command -v go >/dev/null || {
    echo "login: Go is missing, which builds oauth2-proxy: https://go.dev/dl" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "login: building oauth2-proxy" >&2
(cd tests/login && go build -buildvcs=false -o "$work/oauth2-proxy" github.com/oauth2-proxy/oauth2-proxy/v7)
OAUTH2_PROXY="$work/oauth2-proxy" cargo test --locked --package mesh-authz-cli --test e2e -- --ignored login::
