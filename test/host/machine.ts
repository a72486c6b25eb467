/** Boots a host from its disks in a virtual machine under software emulation, until it switches itself off. No network. */
import { spawn } from 'node:child_process';
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { command, ended } from '../scenario/command.js';
import type { Kernel } from '../vm/kernel.js';
import { modulesOf } from '../vm/modules.js';

const QEMU = 'qemu-system-x86_64';
const BUSYBOX = '/bin/busybox';
const MEMORY_MIB = 3072;
const BOOT_MODULES = ['virtio_pci', 'virtio_blk', 'ext4', 'crc32c_generic'];
/** What the host's own kernel needs to be there later. */
export const HOST_MODULES = [...BOOT_MODULES, 'loop', 'fuse', 'dm-mod', 'nbd', 'virtio_rng', 'autofs4'];

export async function packInitramfs(kernel: Kernel, directory: string): Promise<string> {
  const root = path.join(directory, 'initramfs-root');
  for (const name of ['bin', 'proc', 'sys', 'dev', 'root'])
    await mkdir(path.join(root, name), { recursive: true });
  await copyFile(BUSYBOX, path.join(root, 'bin/busybox'));
  await copyFile('test/host/init.sh', path.join(root, 'init'));
  await modulesOf(kernel, BOOT_MODULES, root);
  const archive = path.join(directory, 'initramfs');
  const pack = 'find . | "$1" cpio -o -H newc >"$2"';
  await command('sh', ['-c', pack, 'sh', BUSYBOX, archive], { cwd: root });
  return archive;
}

/** What the console said; `disks`: images, of which the first has the root. */
export async function boot(
  kernel: Kernel,
  initramfs: string,
  disks: readonly string[],
  directory: string,
  secondsMax: number,
): Promise<{ console: string; machineEnd: number | string }> {
  const log = path.join(directory, 'console.log');
  await rm(log, { force: true });
  await writeFile(log, '');
  const board = [
    '-M',
    'q35',
    '-cpu',
    'max',
    '-accel',
    'tcg,thread=multi',
    '-smp',
    '2',
    '-m',
    String(MEMORY_MIB),
  ];
  const bare = ['-nodefaults', '-no-user-config', '-display', 'none', '-nic', 'none', '-no-reboot'];
  const drives = disks.flatMap((file) => ['-drive', `file=${file},format=raw,if=virtio,cache=unsafe`]);
  const devices = ['-device', 'virtio-rng-pci', '-serial', `file:${log}`];
  const append = [
    'console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off random.trust_cpu=on systemd.show_status=error',
    // The console is the scenario's.
    'systemd.mask=serial-getty@ttyS0.service systemd.wants=host-test.service',
  ];
  const kernelArgs = ['-kernel', kernel.image, '-initrd', initramfs, '-append', append.join(' ')];
  const machine = spawn(QEMU, [...board, ...bare, ...drives, ...devices, ...kernelArgs], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const machineEnd = await ended(machine, secondsMax);
  return { console: (await readFile(log, 'utf8')).replaceAll('\r', ''), machineEnd };
}
