#!/bin/busybox sh
# The first process of the virtual machine (machine.ts). Its root is this machine's own, read-only over 9p, below a layer in
# memory: every program and the built tree are there as they are here, and nothing that is written comes back. Runs /command
# there, says how that ended, and switches the machine off. With SYSTEMD, systemd becomes the first process, with udev, and
# has it run as a service.
/bin/busybox --install -s /bin
export PATH=/bin:/usr/sbin:/usr/bin:/sbin
. /settings
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in virtio_pci 9pnet_virtio 9p overlay; do modprobe -q $module; done
share() { mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=524288 "$1" "$2"; }
share host /lower
layers=/lower
if [ "$SYSTEMD" = yes ]; then
  share systemd /systemd
  layers=/systemd:/lower
fi
mount -t tmpfs layer /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=$layers,upperdir=/layer/upper,workdir=/layer/work overlay /root
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mount -t tmpfs run /root/run
mkdir -p /root/lib/modules
mount -o bind "/root$KERNEL_LIB/modules" /root/lib/modules
ip link set lo up
hostname guest
cp /command /root/run/command
cat >/root/run/guest <<'END'
/bin/sh /run/command </dev/null 2>&1
# Last of all: whoever reads the console knows from it that everything before is there.
echo "guest: status $?"
# Without a sync: a device that hangs must not keep the machine from ending.
/bin/busybox poweroff -n -f
END
# With this process's root the kernel's own calls of modprobe change theirs.
[ "$SYSTEMD" = yes ] || exec switch_root /root /bin/sh /run/guest
# Whatever this machine is, the virtual one is no container. It has none of its services; and what is in /tmp, perhaps the
# built tree, stays.
rm -f /root/.dockerenv
mount -t tmpfs units /root/etc/systemd/system
cp /units/* /root/etc/systemd/system/
ln -s /dev/null /root/etc/systemd/system/systemd-tmpfiles-setup.service
exec switch_root /root /lib/systemd/systemd --unit=scenario.service
