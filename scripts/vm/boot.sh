# Sourced by scripts/vm-test: starts the virtual machine, and tells how it ended.

# More for the kernel's command line; another first process than the machine's own.
KERNEL_ARGUMENTS=${KERNEL_ARGUMENTS:-}
INIT=${INIT:-}

# machine KIND [ARGUMENT FOR THE KERNEL...]
machine() {
  local init=/vm/bare
  [ "$1" = systemd ] && init=/lib/systemd/systemd
  exec qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 3072 -no-reboot \
    -display none -vga none -nic none -serial stdio -monitor none \
    -kernel "$(echo "$VM"/kernel/boot/vmlinuz-*)" -initrd "$VM/initramfs.gz" \
    -drive "file=$DISK,format=raw,if=virtio,cache=unsafe" \
    -append "console=ttyS0 quiet loglevel=1 panic=-1 cgroup_no_v1=all rbee.init=${INIT:-$init} \
systemd.show_status=0 systemd.unit=vm-test.service systemd.mask=serial-getty@ttyS0.service $KERNEL_ARGUMENTS ${*:2}"
}

# boot KIND SECONDS MODULE,... [NAME]: runs the tests of these modules whose names hold NAME. Fails unless there
# were some, all of them passed, and the machine said so in time.
boot() {
  local kind=$1 seconds=$2 log=$VM/console.log status start=$SECONDS
  printf '\n-- %s machine: %s\n' "$kind" "${*:3}"
  (
    export VM DISK KERNEL_ARGUMENTS INIT
    timeout --foreground --kill-after=5 "$seconds" \
      bash -c '. scripts/vm/boot.sh; machine "$@"' boot "$kind" "rbee.modules=$3" "rbee.name=${4:-}" </dev/null
  ) 2>&1 | sed -u 's/\r$//' | tee "$log" || true
  echo "-- $kind machine: over after $((SECONDS - start)) s"
  status=$(sed -n 's/^rbee-vm-test: exit status \([0-9]*\)$/\1/p' "$log" | tail -n 1)
  if [ -z "$status" ]; then
    echo "vm-test: the $kind machine ended, or $seconds s were over, before its tests were" >&2
    return 1
  fi
  if [ "$status" != 0 ]; then
    echo "vm-test: tests failed in the $kind machine" >&2
    return 1
  fi
}

shell() {
  INIT=
  [ "$1" = bare ] || KERNEL_ARGUMENTS="systemd.unit=multi-user.target systemd.debug_shell=ttyS0"
  (machine "$1" rbee.shell)
}
