# The peer of `ferrite bench build`: mkosi of Debian trixie in a tree of its own. Needs root, apt-get, dpkg-deb, unshare and a mirror.
#   sh mkosi.sh setup TREE MIRROR   makes the tree
#   sh mkosi.sh run TREE ARGUMENT...   runs mkosi in the tree's /root
set -eu
what=$1 tree=$2; shift 2

# mkosi makes namespaces of its own, for which / must be a mount that can be pivoted from: a chroot is not enough.
inside() {
    unshare --mount --pid --fork --kill-child sh -ec '
        mount --bind "$1" "$1"; cd "$1"; shift
        mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev; mount -t tmpfs tmpfs run
        pivot_root . mnt; umount -l mnt; export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
        cd /root; exec "$@"' sh "$tree" "$@"
}

if [ "$what" = setup ]; then
    tool=$(mktemp -d)
    (cd "$tool" && apt-get download -q debootstrap && dpkg-deb -x debootstrap_*.deb .)
    DEBOOTSTRAP_DIR=$tool/usr/share/debootstrap "$tool/usr/sbin/debootstrap" --variant=minbase trixie "$tree" "$1"
    rm -r "$tool"
    cp /etc/resolv.conf "$tree/etc/"
    inside apt-get install -qy --no-install-recommends mkosi systemd-repart dosfstools mtools e2fsprogs
else
    inside mkosi "$@"
fi
