/**
 * A continuously mirrored volume without history, of QEMU's own programs: qemu-storage-daemon serves the source over NBD, and a
 * blockdev-mirror job in write-blocking mode copies every write to a qemu-nbd over a Unix socket before it acknowledges it.
 * What it speaks is QMP (qemu-qmp-ref(7)): one JSON object a line.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { command, ended } from '../test/scenario/command.js';
import type { Scratch } from '../test/scenario/scratch.js';
import { socketIsThere, type CacheMode } from './volume.js';

const END_SECONDS_MAX = 60;
const READY_SECONDS_MAX = 600;

interface QmpLine {
  return?: unknown;
  error?: { desc: string };
  event?: string;
}

export interface MirrorOptions {
  source: string;
  bytes: number;
  cache: CacheMode;
}

export class QemuMirror {
  private constructor(
    readonly uri: string,
    /** Of both ends. */
    readonly pids: number[],
  ) {}

  /** Resolves when both ends are equal. */
  static async start(scratch: Scratch, { source, bytes, cache }: MirrorOptions): Promise<QemuMirror> {
    const target = scratch.path('mirror.img');
    await command('dd', ['if=/dev/zero', `of=${target}`, 'bs=1M', `count=${bytes >> 20}`, 'conv=fsync'], {
      secondsMax: 600,
    });
    const [far, near, monitor] = ['far.sock', 'near.sock', 'qmp.sock'].map((name) => scratch.path(name)) as [
      string,
      string,
      string,
    ];
    const farCache = cache === 'direct' ? ['--cache=none', '--aio=native'] : ['--cache=writeback'];
    const receiver = daemon(scratch, 'qemu-nbd', [
      ...['--persistent', '--shared=4', ...farCache, '-f', 'raw', '-k', far, target],
    ]);
    await socketIsThere(far, receiver);
    const file =
      cache === 'direct'
        ? `driver=file,node-name=source,filename=${source},aio=native,cache.direct=on`
        : `driver=file,node-name=source,filename=${source}`;
    const sender = daemon(scratch, 'qemu-storage-daemon', [
      ...['--blockdev', file],
      ...['--blockdev', `driver=nbd,node-name=target,server.type=unix,server.path=${far}`],
      ...['--nbd-server', `addr.type=unix,addr.path=${near}`],
      ...['--export', 'type=nbd,id=export,node-name=source,name=,writable=on'],
      ...['--chardev', `socket,id=qmp,path=${monitor},server=on,wait=off`],
      ...['--monitor', 'chardev=qmp'],
    ]);
    await socketIsThere(monitor, sender);
    await mirrored(monitor);
    return new QemuMirror(`nbd+unix:///?socket=${near}`, [pidOf(sender), pidOf(receiver)]);
  }
}

function daemon(scratch: Scratch, program: string, args: string[]): ChildProcess {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  scratch.defer(program, async () => {
    child.kill('SIGTERM');
    await ended(child, END_SECONDS_MAX);
  });
  return child;
}

function pidOf({ pid, spawnfile }: ChildProcess): number {
  if (pid === undefined) throw new Error(`${spawnfile} could not be started`);
  return pid;
}

/** Has the job begun, and waits until it has copied everything. */
async function mirrored(monitor: string): Promise<void> {
  const socket = net.createConnection(monitor);
  try {
    await once(socket, 'connect');
    const timer = setTimeout(() => socket.destroy(), READY_SECONDS_MAX * 1000);
    const say = (execute: string, words: object = {}): void =>
      void socket.write(`${JSON.stringify({ execute, arguments: words })}\n`);
    say('qmp_capabilities');
    say('blockdev-mirror', {
      ...{ 'job-id': 'mirror', device: 'source', target: 'target' },
      ...{ sync: 'full', 'copy-mode': 'write-blocking' },
    });
    for await (const line of createInterface({ input: socket })) {
      const { error, event } = JSON.parse(line) as QmpLine;
      if (error !== undefined) throw new Error(`qemu-storage-daemon: ${error.desc}`);
      if (event === 'BLOCK_JOB_READY') return clearTimeout(timer);
    }
    throw new Error('qemu-storage-daemon did not make the mirror ready');
  } finally {
    socket.destroy();
  }
}
