#!/bin/sh
# Installs the command mesh-authz of a release: downloads it, compares its checksum, and puts it into a folder.
#
#   MESH_AUTHZ_FOLDER    where it goes; ~/.local/bin if it is not set
#   MESH_AUTHZ_VERSION   which version; this script's own if it is not set
#   MESH_AUTHZ_RELEASES  where releases lie, one folder for each version
#
# All of it is in a function, so that nothing runs if the download of this script breaks off.
set -eu

main() {
    releases=${MESH_AUTHZ_RELEASES:-https://releases.example/mesh-authz}
    version=${MESH_AUTHZ_VERSION:-0.1.0}
    folder=${MESH_AUTHZ_FOLDER:-$HOME/.local/bin}

    case "$(uname -s) $(uname -m)" in
        "Linux x86_64") target=x86_64-unknown-linux-musl ;;
        "Linux aarch64" | "Linux arm64") target=aarch64-unknown-linux-musl ;;
        *) fail "there is no binary for $(uname -s) on $(uname -m); build it: cargo install --locked --path cli" ;;
    esac
    file=mesh-authz-$version-$target
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT

    fetch "$releases/v$version/SHA256SUMS" "$work/SHA256SUMS"
    fetch "$releases/v$version/$file" "$work/$file"
    wanted=$(awk -v file="$file" '$2 == file { print $1 }' "$work/SHA256SUMS")
    [ -n "$wanted" ] || fail "SHA256SUMS of version $version does not have $file"
    found=$(checksum "$work/$file")
    [ "$wanted" = "$found" ] || fail "$file has the checksum $found, and SHA256SUMS says $wanted: nothing is installed"

    mkdir -p "$folder"
    chmod 755 "$work/$file"
    # In one step, also if the command runs at this moment.
    cp "$work/$file" "$folder/.mesh-authz.new"
    mv -f "$folder/.mesh-authz.new" "$folder/mesh-authz"
    echo "installed $folder/mesh-authz, version $version"
    # Whoever chose the folder knows how to find it.
    [ -n "${MESH_AUTHZ_FOLDER:-}" ] && return
    case ":$PATH:" in
        *":$folder:"*) ;;
        *) echo "$folder is not on the PATH: export PATH=\"$folder:\$PATH\"" ;;
    esac
}

fetch() {
    if command -v curl >/dev/null; then
        curl --fail --silent --show-error --location --output "$2" "$1" || fail "$1 cannot be downloaded"
    elif command -v wget >/dev/null; then
        wget --quiet --output-document="$2" "$1" || fail "$1 cannot be downloaded"
    else
        fail "neither curl nor wget is there to download $1"
    fi
}

checksum() {
    if command -v sha256sum >/dev/null; then
        sha256sum "$1" | cut -d ' ' -f 1
    else
        shasum -a 256 "$1" | cut -d ' ' -f 1
    fi
}

fail() {
    echo "install: $*" >&2
    exit 1
}

main
