/**
 * A virtual machine under software emulation that boots a stock kernel and runs one program of this machine's: see init.sh
 * for what it finds there. No network, no disk of its own, nothing stays. Times inside mean nothing.
 */
import { spawn } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { command, ended } from '../scenario/command.js';
import type { Kernel } from './kernel.js';
import { modulesOf } from './modules.js';

const QEMU = 'qemu-system-x86_64';
const BUSYBOX = '/bin/busybox';
/** What the machine says, to be watched while it runs, and of the last one afterwards. */
const CONSOLE = path.resolve('build/vm/console.log');
const MEMORY_MIB = 2048;
/** What reaching the root file system takes; the kernel loads the rest from there when it is asked for. */
const BOOT_MODULES = ['virtio_pci', '9pnet_virtio', '9p', 'overlay'];
const DIRECTORIES = ['bin', 'proc', 'dev', 'lower', 'systemd', 'layer', 'root', 'units'];
/** Neither its own progress, nor what a new installation would be due for. */
const SYSTEMD_SAYS = 'systemd.show_status=error systemd.condition-needs-update=no';
const UNITS = 'test/vm/systemd';
const STATUS = /^guest: status (\d+)$/m;

/** The programs without which there is no virtual machine, that are not installed here. */
export function missingPrograms(): string[] {
  const directories = (process.env['PATH'] ?? '').split(path.delimiter);
  const isThere = (name: string): boolean => directories.some((one) => existsSync(path.join(one, name)));
  return [QEMU, 'busybox', 'depmod', 'dmsetup'].filter((name) => !isThere(name));
}

export interface GuestResult {
  /** Of the program; null: the machine ended before it did. */
  status: number | null;
  console: string;
  /** How the machine itself ended: an exit status or a signal. */
  machineEnd: number | string;
}

/** Runs `words` in the current directory, as root; below systemd if there is a `systemd` to lay over the root. */
export async function runInGuest(
  kernel: Kernel,
  systemd: string | null,
  words: readonly string[],
  secondsMax: number,
): Promise<GuestResult> {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'afterimage-vm-'));
  try {
    const initramfs = await packInitramfs(kernel, systemd !== null, words, directory);
    const board = ['-M', 'q35', '-cpu', 'max', '-accel', 'tcg,thread=multi', '-smp', '2'];
    const bare = ['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-nic', 'none'];
    const shares = [...share('host', '/'), ...(systemd === null ? [] : share('systemd', systemd))];
    const devices = [...shares, '-device', 'virtio-rng-pci', '-serial', `file:${CONSOLE}`];
    const append = [
      'console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off random.trust_cpu=on',
      SYSTEMD_SAYS,
    ];
    const boot = ['-kernel', kernel.image, '-initrd', initramfs, '-append', append.join(' ')];
    const args = [...board, '-m', String(MEMORY_MIB), ...bare, ...devices, ...boot];
    // What an earlier machine said there is no word of this one.
    await rm(CONSOLE, { force: true });
    const machine = spawn(QEMU, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    const machineEnd = await ended(machine, secondsMax);
    const console = (await readFile(CONSOLE, 'utf8').catch(() => '')).replaceAll('\r', '');
    const status = STATUS.exec(console)?.[1];
    return { status: status === undefined ? null : Number(status), console, machineEnd };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function share(tag: string, directory: string): string[] {
  return [
    '-virtfs',
    `local,path=${directory},mount_tag=${tag},security_model=none,readonly=on,multidevs=remap`,
  ];
}

async function packInitramfs(
  kernel: Kernel,
  hasSystemd: boolean,
  words: readonly string[],
  directory: string,
): Promise<string> {
  const root = path.join(directory, 'root');
  for (const name of DIRECTORIES) await mkdir(path.join(root, name), { recursive: true });
  await copyFile(BUSYBOX, path.join(root, 'bin/busybox'));
  await copyFile('test/vm/init.sh', path.join(root, 'init'));
  const settings = [`KERNEL_LIB=${quote(kernel.lib)}`, `SYSTEMD=${hasSystemd ? 'yes' : 'no'}`];
  await writeFile(path.join(root, 'settings'), `${settings.join('\n')}\n`);
  for (const name of await readdir(UNITS))
    await copyFile(path.join(UNITS, name), path.join(root, 'units', name));
  await writeFile(path.join(root, 'command'), guestCommand(words));
  await modulesOf(kernel, BOOT_MODULES, root);
  const archive = path.join(directory, 'initramfs');
  const pack = 'find . | "$1" cpio -o -H newc >"$2"';
  await command('sh', ['-c', pack, 'sh', BUSYBOX, archive], { cwd: root });
  return archive;
}

function guestCommand(words: readonly string[]): string {
  const { PATH: programs = '', HOME: home = '/root' } = process.env;
  return [
    `export PATH=${quote(programs)} HOME=${quote(home)} TMPDIR=/run LC_ALL=C`,
    `cd ${quote(process.cwd())}`,
    `exec ${words.map(quote).join(' ')}`,
    '',
  ].join('\n');
}

const quote = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;
