#!/usr/bin/env bash
# Applies examples/istio as its page says, with an image of the registry: $IMAGE and $DIGEST.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cp -r examples/istio "$folder"
mesh-authz render wasm-plugin examples/tutorial/allow-*.yaml --url "$IMAGE" --sha256 "$DIGEST" > "$folder/istio/wasm-plugin.yaml"
kubectl apply --server-side -k "$folder/istio"
