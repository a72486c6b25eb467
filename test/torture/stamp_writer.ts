/** Writers under way over the devices of a group (stamp_writer.cc), and what they saw. */
import { spawn, type ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { command, ended } from '../scenario/command.js';
import type { Operation } from '../scenario/oracle.js';
import type { Scratch } from '../scenario/scratch.js';

const SOURCES = fileURLToPath(new URL('../../../test/torture', import.meta.url));
const PROGRAM = fileURLToPath(new URL('../../../build/torture/stamp-writer', import.meta.url));
const WRITERS = 16;
const RECORD_BYTES = 48;
const KINDS = ['write', 'trim', 'zero', 'flush'] as const;

export interface StampedOperation extends Operation {
  /** 0: acknowledged. */
  errno: number;
  /** A write that asked to be on stable storage when it is answered. */
  isFua: boolean;
}

export async function buildStampWriter(): Promise<void> {
  await command('make', ['-s', '-C', SOURCES], { secondsMax: 300 });
}

export class StampWriter {
  /** Writes that were acknowledged so far. */
  writes = 0;

  private constructor(
    private readonly child: ChildProcess,
    private readonly log: string,
  ) {}

  /** `targets`: devices or NBD URIs, by number of the volume. `first`: the number of its first operation. */
  static start(
    scratch: Scratch,
    targets: readonly string[],
    { seed, rate, first }: { seed: number; rate: number; first: number },
  ): StampWriter {
    const log = scratch.path(`operations-${first}`);
    const words = ['--log', log, '--seed', String(seed), '--writers', String(WRITERS)];
    const child = spawn(PROGRAM, [...words, '--rate', String(rate), '--first', String(first), ...targets], {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true, // a Ctrl-C in the terminal is for whoever started it
    });
    const writer = new StampWriter(child, log);
    let rest = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      writer.writes = Number(lines.at(-1) ?? writer.writes);
    });
    scratch.defer('writers', () => void child.kill('SIGKILL'));
    return writer;
  }

  /** Waits until so many writes were acknowledged, or nothing has been for `idleSecondsMax`: false. */
  async reaches(writes: number, idleSecondsMax: number): Promise<boolean> {
    let last = -1;
    let progress = Date.now();
    while (this.writes < writes) {
      if (this.writes !== last) [last, progress] = [this.writes, Date.now()];
      if (this.child.exitCode !== null || Date.now() - progress > idleSecondsMax * 1000) return false;
      await sleep(20);
    }
    return true;
  }

  /** Ends it; all that it did. Rejects when what it asked for is not answered within `secondsMax`. */
  async stop(secondsMax: number): Promise<StampedOperation[]> {
    this.child.kill('SIGTERM');
    const status = await ended(this.child, secondsMax);
    if (status !== 0) throw new Error(`the writers ended with ${status}`);
    return readStampLog(await readFile(this.log));
  }
}

/** The layout is told at the head of stamp_writer.cc. */
function readStampLog(bytes: Buffer): StampedOperation[] {
  return Array.from({ length: bytes.length / RECORD_BYTES }, (_, index) => {
    const at = index * RECORD_BYTES;
    const errno = bytes.readUInt32LE(at + 40);
    return {
      op: Number(bytes.readBigUInt64LE(at)),
      submitNs: bytes.readBigUInt64LE(at + 8),
      ackNs: bytes.readBigUInt64LE(at + 16),
      offset: Number(bytes.readBigUInt64LE(at + 24)),
      length: bytes.readUInt32LE(at + 32),
      volume: bytes.readUInt16LE(at + 36),
      kind: KINDS[bytes.readUInt8(at + 38)] ?? 'flush',
      errno,
      isFua: bytes.readUInt8(at + 39) === 1,
      isFailed: errno !== 0,
    };
  });
}
