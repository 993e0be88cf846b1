#!/bin/sh
# mkosi.sh setup|build SCRATCH MIRROR PACKAGE...
# The peer of `ferrite bench build --mkosi`: Debian's mkosi in a tree of its own (setup), and one image of the same packages with it
# (build, from packages that are cached after the first). Needs root, debootstrap, unshare, pivot_root.
set -eu
action=$1 scratch=$2 mirror=$3
shift 3
tree=$scratch/tree

# Runs a command with the tree as its root: a chroot would not let mkosi make its own name spaces.
inside() {
  unshare --mount --pid --fork sh -euc '
    mount --rbind "$1" "$1"; cd "$1"; shift
    mount -t proc proc proc; mount --rbind /dev dev; mount --rbind /sys sys; mount -t tmpfs tmpfs run
    cp /etc/resolv.conf etc/resolv.conf
    mkdir -p old; pivot_root . old; cd /; umount -l /old
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"' sh "$tree" "$@"
}

case $action in
setup)
  mkdir -p "$scratch"
  debootstrap --variant=minbase trixie "$tree" "$mirror"
  cp /etc/resolv.conf "$tree/etc/resolv.conf"
  chroot "$tree" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates mkosi \
    debian-archive-keyring dosfstools e2fsprogs erofs-utils mtools systemd-repart systemd-boot systemd-ukify zstd cpio kmod
  mkdir -p "$tree/work"
  { printf '[Distribution]\nDistribution=debian\nRelease=trixie\nMirror=%s\n' "${mirror%/debian}/debian"
    printf '[Output]\nFormat=disk\nOutput=peer\n[Build]\nCacheDirectory=cache\n[Content]\nBootable=yes\nPackages=\n'
    for package; do printf '  %s\n' "$package"; done; } >"$tree/work/mkosi.conf"
  mkdir -p "$tree/work/cache"
  inside mkosi --directory=/work --force build # fills the cache of packages
  ;;
build) inside mkosi --directory=/work --force build ;;
*) echo "setup or build, not $action" >&2; exit 2 ;;
esac
