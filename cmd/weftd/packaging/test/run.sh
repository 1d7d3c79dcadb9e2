#!/bin/sh
# Packages on real systems, in network and mount namespaces of their own: the .deb is installed, upgraded under traffic and purged in
# a Debian with systemd, the .rpm installed and erased in an empty root, the arm64 programs started under qemu, the image run by
# containerd as the Kubernetes manifest says, and all of it built twice, in two folders. Called by `make package-test`, at the project's top.
set -eu

here=$PWD/cmd/weftd/packaging/test
work=$(mktemp -d /var/tmp/weft-package.XXXXXX)
trap 'rm -rf "$work"' EXIT

step() { echo "== $*"; }

step "packages"
make -s package >/dev/null

step "the same bytes in another folder"
mkdir "$work/elsewhere"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$work/elsewhere" 2>/dev/null || true
cp -r .git "$work/elsewhere/"
(cd "$work/elsewhere" && make -s package >/dev/null)
cmp bin/package/SHA256SUMS "$work/elsewhere/bin/package/SHA256SUMS"

step "arm64 under qemu"
mkdir "$work/arm64"
tar -xzf bin/package/*-linux-arm64.tar.gz -C "$work/arm64"
for program in weftd weft; do
    qemu-aarch64-static "$work/arm64/$program" version
done
qemu-aarch64-static "$work/arm64/weftd" config default >"$work/default.yaml"
qemu-aarch64-static "$work/arm64/weftd" config check --config "$work/default.yaml" --insecure

step ".rpm in an empty root"
mkdir -p "$work/rpm/bin"
rpm --root "$work/rpm" --initdb
rpm --root "$work/rpm" -i --noscripts --nodeps bin/package/*.x86_64.rpm
chroot "$work/rpm" /usr/bin/weftd version
echo "# mine" >>"$work/rpm/etc/weft/weft.yaml"
rpm --root "$work/rpm" -V weft && { echo "rpm does not see a changed configuration"; exit 1; }
rpm --root "$work/rpm" -e --noscripts weft
[ ! -e "$work/rpm/usr/bin/weftd" ]
grep -q "# mine" "$work/rpm/etc/weft/weft.yaml.rpmsave"

step "the image as Kubernetes runs it"
go test -tags netns,daemonset -count 1 -run DaemonSet ./cni/e2e

step "a Debian"
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,iproute2,iperf3,iputils-ping,procps,nftables bookworm \
    "$work/debian" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$work/debootstrap.log" 2>&1 || { tail "$work/debootstrap.log"; exit 1; }
cp bin/package/weft_*_amd64.deb "$work/debian/weft.deb"
unshare --net --mount --propagation private "$here/debian.sh" "$work"
echo "all is well"
