# Sourced by scripts/vm-test: what the virtual machine is made of.
#
# Kept below $VM: `kernel/` (Debian's, unpacked, not installed), `debian/` (a minimal system, made by
# debootstrap). Made anew each time: `disk.img`, that system with the binaries of now.

VM=$(realpath -m "${CARGO_TARGET_DIR:-target}")/vm
DISK=$VM/disk.img

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Of each package its program: what is there is not asked for.
fetch_tools() {
  local missing=() program
  while read -r program package; do
    command -v "$program" >/dev/null || missing+=("$package")
  done <<'LIST'
qemu-system-x86_64 qemu-system-x86
debootstrap debootstrap
busybox busybox-static
cpio cpio
mke2fs e2fsprogs
LIST
  [ ${#missing[@]} = 0 ] && return
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

fetch_kernel() {
  [ -e "$VM/kernel/boot" ] && return
  local package download
  download=$(mktemp -d)
  chmod 755 "$download"
  as_root apt-get update -qq
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
  (cd "$download" && apt-get download -qq "$package" 2>&1 | sed '/unsandboxed/d')
  rm -rf "$VM/kernel.new" && dpkg -x "$download"/*.deb "$VM/kernel.new"
  mv "$VM/kernel.new" "$VM/kernel"
  rm -r "$download"
}

# The suite of the machine that builds, so that its C library fits.
fetch_debian() {
  [ -e "$VM/debian" ] && return
  local suite
  suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
  as_root rm -rf "$VM/debian.new"
  as_root debootstrap --variant=minbase \
    --include=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd \
    "$suite" "$VM/debian.new" >"$VM/debootstrap.log" ||
    { tail -n 20 "$VM/debootstrap.log" >&2; return 1; }
  as_root mv "$VM/debian.new" "$VM/debian"
}

# What the kernel loads first: a disk's drivers, and the way to that disk.
make_initramfs() {
  local root=$VM/initramfs modules name
  modules=$(echo "$VM"/kernel/lib/modules/*)
  rm -rf "$root" && mkdir -p "$root"/{bin,dev,proc,root,modules}
  cp "$(command -v busybox)" "$root/bin/busybox"
  for name in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
    find "$modules" -name "$name.ko" -exec cp {} "$root/modules/" \;
  done
  install -m 755 tests/vm/guest/initramfs "$root/init"
  (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$VM/initramfs.gz"
}

# The tests know the binary by the path that cargo built it at: it is at that path in there too.
build_binaries() {
  cargo build --locked --quiet
  VM_TESTS=$(cargo test --locked --no-run --quiet --test vm --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/vm-[^"]*\)".*/\1/p' | tail -n 1)
  VM_RBEE=$(dirname "$(dirname "$VM_TESTS")")/rbee
}

# Two packages of the same content, the second of a higher version.
build_packages() {
  local packages=$VM/packages number
  rm -rf "$packages" && mkdir -p "$packages"
  for number in 1 2; do
    mv "$(scripts/package --quick "0.0.0~test$number")" "$packages/$number.deb"
  done
}

make_root() {
  local root=$VM/root target
  as_root rm -rf "$root"
  # Links to what is kept: nothing of it is written to, files are only added.
  as_root cp -al "$VM/debian" "$root"
  target=$(dirname "$VM_RBEE")
  as_root mkdir -p "$root/vm" "$root$target" "$root$(dirname "$target")/tmp" "$root/etc/rbee"
  as_root strip -o "$root/usr/local/bin/rbee" "$VM_RBEE"
  as_root ln -f "$root/usr/local/bin/rbee" "$root$VM_RBEE"
  as_root strip -o "$root/vm/tests" "$VM_TESTS"
  as_root cp "$(command -v busybox)" "$root/usr/local/bin/busybox"
  as_root install -m 755 tests/vm/guest/{bare,run} "$root/vm/"
  as_root cp -r "$VM/packages" "$root/vm/"
  as_root install -m 644 config/systemd/*.{service,slice} tests/vm/guest/vm-test.service "$root/etc/systemd/system/"
  # The checkout that is tested may be below /tmp: that is not emptied when systemd starts.
  as_root mkdir -p "$root/etc/tmpfiles.d" "$root/tmp"
  as_root chmod 1777 "$root/tmp"
  echo 'd /tmp 1777 root root -' | as_root tee "$root/etc/tmpfiles.d/tmp.conf" >/dev/null
  as_root mkdir -p "$root/etc/systemd/user"
  as_root install -m 644 config/systemd/user/*.service config/systemd/rbee.slice "$root/etc/systemd/user/"
  as_root install -m 644 config/hive.toml "$root/etc/rbee/"
}

fetch_and_build() {
  mkdir -p "$VM"
  fetch_tools
  fetch_kernel
  fetch_debian
  build_binaries
  build_packages
  make_initramfs
  make_root
}

fresh_disk() {
  rm -f "$DISK"
  as_root mke2fs -q -t ext4 -d "$VM/root" "$DISK" 2G >/dev/null
}
