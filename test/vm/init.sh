#!/bin/busybox sh
# The first process of the virtual machine (machine.ts). Its root is this machine's own, read-only over 9p, below a layer in
# memory: every program and the built tree are there as they are here, and nothing that is written comes back. Runs /command
# there, says how that ended, and switches the machine off.
/bin/busybox --install -s /bin
export PATH=/bin:/usr/sbin:/usr/bin:/sbin
. /settings
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in virtio_pci 9pnet_virtio 9p overlay; do modprobe -q $module; done
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=524288 host /lower
mount -t tmpfs layer /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work overlay /root
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mount -t tmpfs run /root/run
mkdir -p /root/lib/modules
mount -o bind "/root$KERNEL_LIB/modules" /root/lib/modules
ip link set lo up
cp /command /root/run/command
# With this process's root the kernel's own calls of modprobe change theirs.
exec switch_root /root /bin/sh -c '
/bin/sh /run/command </dev/null 2>&1
# Last of all: whoever reads the console knows from it that everything before is there.
echo "guest: status $?"
# Without a sync: a device that hangs must not keep the machine from ending.
/bin/busybox poweroff -n -f
'
