#!/usr/bin/env bash
# What docs/istio-shell.md shows, in the shell that it starts.
set -euo pipefail

expect() { # what is wanted, command…
    local wanted=$1 got
    shift
    got=$("$@" 2>&1) || true
    [ "$got" = "$wanted" ] || {
        echo "istio-shell: $*: wanted '$wanted', and got '$got'" >&2
        exit 1
    }
}
as_frontend() { in-pod frontend curl -s -m 5 -o /dev/null -w '%{http_code}' "$@"; }

# A sidecar can be ready a moment before it knows where the Service leads.
for _ in $(seq 50); do [ "$(as_frontend http://backend/api/v1/data)" = 200 ] && break || sleep 0.2; done
expect 200 as_frontend http://backend/api/v1/data
expect 403 as_frontend -X POST http://backend/api/v1/data
expect 403 as_frontend http://backend.default.svc.cluster.local/api/v1/other
proxy-log backend | grep -q '"decision":"DENY"' || { echo "istio-shell: no decision in the log of the backend" >&2; exit 1; }
expect 2 sh -c 'kubectl get pods --no-headers | wc -l'
echo "istio-shell: what the page shows is what happens"
