#!/usr/bin/env bash
# Builds the programs of a mesh with Go, at the versions that the go.mod files pin, and copies the files that they need.
#
#   build.sh FOLDER    fills FOLDER/bin and FOLDER/share
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

command -v go >/dev/null || {
    echo "Go is missing. A real Istio and Kubernetes are built with it: https://go.dev/dl, 1.21 or later." >&2
    exit 1
}
mkdir -p "$folder/bin" "$folder/share/gateway-api"

# Says what is being built, since the first build takes minutes. Go itself knows what is out of date.
build() { # what, module, package…
    local what=$1 module=$2
    shift 2
    echo "istio: building $what" >&2
    (cd "$here/$module" && go build -buildvcs=false -ldflags='-s -w' -o "$folder/bin/" "$@")
}

[ -e "$folder/bin/pilot-discovery" ] ||
    echo "istio: the first build downloads Kubernetes and Istio and compiles them: about ten minutes on two cores" >&2
build "the API server, kubectl, and what asks them about files" kubernetes . ./admission k8s.io/kubernetes/cmd/kubectl
build "istiod, and Istio's agent" istio istio.io/istio/pilot/cmd/pilot-discovery istio.io/istio/pilot/cmd/pilot-agent
build "the registry, what redirects connections, and what asks Istio's code" istio ./registry ./redirect ./authorization

module() { (cd "$here/istio" && go list -m -f '{{.Dir}}' "$1"); }
istio=$(module istio.io/istio)
install -m 644 "$istio/manifests/charts/base/files/crd-all.gen.yaml" "$folder/share/istio-crds.yaml"
install -m 644 "$(module sigs.k8s.io/gateway-api)"/config/crd/standard/*.yaml "$folder/share/gateway-api/"
# Waypoints ask for an extension that only Istio's build of Envoy has.
sed '/{{- if .metadata_discovery }}/,/{{- end }}/d' "$istio/tools/packaging/common/envoy_bootstrap.json" \
    > "$folder/share/bootstrap.json"
