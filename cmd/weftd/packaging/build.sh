#!/bin/sh
# Makes bin/package: programs, packages, image, checksums and the list of what they are built of. The same commit gives
# the same bytes, in whatever folder. Called by `make package`, at the project's top, with VERSION, LDFLAGS, NFPM and
# SOURCE_DATE_EPOCH.
set -eu

out=$PWD/bin/package
rm -rf "$out"
mkdir -p "$out"
umask 022
export VERSION SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

go build -trimpath -buildvcs=false -ldflags "$LDFLAGS" -o "$work/host/" ./cmd/weftd ./cmd/weft
for arch in amd64 arm64; do
    ARCH=$arch ROOT=$work/$arch
    export ARCH ROOT
    GOOS=linux GOARCH=$arch GOAMD64=v1 go build -trimpath -buildvcs=false -ldflags "$LDFLAGS" -o "$ROOT/" ./cmd/weftd ./cmd/weft ./cmd/weft-cni
    sed 's,/usr/local/bin/,/usr/bin/,' cmd/weftd/weftd.service >"$ROOT/weftd.service"
    "$work/host/weftd" config default >"$ROOT/weft.yaml"
    for shell in bash zsh fish; do
        "$work/host/weft" completion $shell >"$ROOT/completion.$shell"
    done
    for kind in deb rpm; do
        GOOS='' GOARCH='' go run "$NFPM" package --config "cmd/weftd/packaging/nfpm.yaml" --packager $kind --target "$out/"
    done
    tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$ROOT" -cf - weftd weft weft-cni |
        gzip -n >"$out/weft-$VERSION-linux-$arch.tar.gz"
done

go build -C "cmd/weftd/packaging/release" -buildvcs=false -o "$work/release"
"$work/release" image -version "$VERSION" -epoch "$SOURCE_DATE_EPOCH" -out "$out/weft-$VERSION.oci.tar" "amd64=$work/amd64" "arm64=$work/arm64"
"$work/release" sbom -version "$VERSION" -epoch "$SOURCE_DATE_EPOCH" -out "$out/weft-$VERSION.spdx.json" \
    "$work"/amd64/weftd "$work"/amd64/weft "$work"/amd64/weft-cni "$work"/arm64/weftd "$work"/arm64/weft "$work"/arm64/weft-cni
(cd "$out" && sha256sum -- * >../SHA256SUMS && mv ../SHA256SUMS .)
ls "$out"
