#!/usr/bin/env bash
# Runs the end-to-end test of examples/redis with a real redis-server. $ENVOY is the Envoy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command -v redis-server >/dev/null || {
    echo "redis: redis-server is missing; on Debian: apt-get install redis-server" >&2
    exit 1
}
REDIS_SERVER="$(command -v redis-server)" cargo test --locked --package mesh-authz-cli --test e2e -- --ignored redis::
