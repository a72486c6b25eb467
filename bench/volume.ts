/** The backing file that ours and its peers take turns on, and the ways to serve it, all in the same cache mode. */
import { spawn, type ChildProcess } from 'node:child_process';
import { access, rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { command, ended } from '../test/scenario/command.js';
import { Scratch } from '../test/scenario/scratch.js';
import { nbdUri, Site, type SiteOptions } from '../test/scenario/site.js';
import type { Target } from './fio.js';
import { QemuMirror } from './qemu_mirror.js';

export const GROUP = 'bench';
export const VOLUME = 'volume';
const READY_SECONDS_MAX = 600;
const SOCKET_TRIES_MAX = 400;
const END_SECONDS_MAX = 60;

/** How whoever serves a file opens it: through the page cache, as the product does by default, or past it (O_DIRECT). */
export type CacheMode = 'buffered' | 'direct';
export const CACHE_MODES: CacheMode[] = ['buffered', 'direct'];

export interface Protection extends Omit<Partial<SiteOptions>, 'group' | 'volumes'> {
  attach: 'socket' | 'loop';
  cache: CacheMode;
}

export class BenchVolume {
  private constructor(
    readonly scratch: Scratch,
    readonly file: string,
    readonly bytes: number,
  ) {}

  /** A file of `bytes` bytes, written once from end to end so that neither side pays for first touches. */
  static async create(bytes: number): Promise<BenchVolume> {
    const scratch = await Scratch.create('bench');
    const file = scratch.path('volume.img');
    await command('dd', ['if=/dev/urandom', `of=${file}`, 'bs=1M', `count=${bytes >> 20}`, 'conv=fsync'], {
      secondsMax: 600,
    });
    return new BenchVolume(scratch, file, bytes);
  }

  /** Serves it protected, replicating to a receiver of its own; runs `use` once all of it is there; stops everything. */
  async protected<T>(
    { attach, cache, ...further }: Protection,
    use: (site: Site, target: Target) => Promise<T>,
  ): Promise<T> {
    const scratch = await Scratch.create('bench-ours');
    try {
      const volumes = [{ name: VOLUME, backing: this.file, attach, cache }];
      const site = await Site.create(scratch, { ...further, group: GROUP, volumes });
      await site.start();
      const group = await site.settled(READY_SECONDS_MAX);
      const device = group.volumes[0]?.device ?? '';
      return await use(site, attach === 'loop' ? { device } : { uri: nbdUri(group) });
    } finally {
      await scratch.clean();
    }
  }

  /**
   * An NBD server without replication over a Unix socket: nbdkit's file plugin, or, since that cannot open a file past the page
   * cache, qemu-nbd.
   */
  async unprotected<T>(cache: CacheMode, use: (target: Target) => Promise<T>): Promise<T> {
    const socket = this.scratch.path('peer.sock');
    if (cache === 'buffered') return nbdkit(socket, this.file, use);
    const flags = ['--persistent', '--cache=none', '--aio=native', '-f', 'raw', '-k', socket];
    return serving(['qemu-nbd', ...flags, this.file], socket, use);
  }

  /** A plain loop device. */
  async plainLoop<T>(cache: CacheMode, use: (target: Target) => Promise<T>): Promise<T> {
    const direct = `--direct-io=${cache === 'direct' ? 'on' : 'off'}`;
    const device = (await command('losetup', [direct, '--find', '--show', this.file])).stdout.trim();
    try {
      return await use({ device });
    } finally {
      await command('losetup', ['-d', device]);
    }
  }

  /** Mirrored, each write to both ends before it is acknowledged, to a second file. */
  async mirrored<T>(cache: CacheMode, use: (mirror: QemuMirror, target: Target) => Promise<T>): Promise<T> {
    const scratch = await Scratch.create('bench-mirror');
    try {
      const mirror = await QemuMirror.start(scratch, { source: this.file, bytes: this.bytes, cache });
      return await use(mirror, { uri: mirror.uri });
    } finally {
      await scratch.clean();
    }
  }

  clean(): Promise<void> {
    return this.scratch.clean();
  }
}

/** The peers' servers say themselves nothing of when they are there. */
export async function socketIsThere(socket: string, server: ChildProcess): Promise<void> {
  for (let tries = 0; tries < SOCKET_TRIES_MAX; tries += 1) {
    const isThere = await access(socket).then(
      () => true,
      () => false,
    );
    if (isThere) return;
    if (server.exitCode !== null || server.signalCode !== null) break;
    await sleep(25);
  }
  throw new Error(`${server.spawnargs.join(' ')} does not serve ${socket}`);
}

/** nbdkit's file plugin, through the page cache. */
export function nbdkit<T>(
  socket: string,
  file: string,
  use: (target: { uri: string }) => Promise<T>,
): Promise<T> {
  return serving(['nbdkit', '--foreground', '--unix', socket, 'file', file], socket, use);
}

async function serving<T>(
  words: string[],
  socket: string,
  use: (target: { uri: string }) => Promise<T>,
): Promise<T> {
  const [program = '', ...args] = words;
  await rm(socket, { force: true });
  const child = spawn(program, args, { stdio: 'ignore' });
  try {
    await socketIsThere(socket, child);
    return await use({ uri: `nbd+unix:///?socket=${socket}` });
  } finally {
    child.kill('SIGTERM');
    await ended(child, END_SECONDS_MAX);
  }
}
