/** What uses a volume inside of a virtual machine, and how one sees that it goes on. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ended } from '../../scenario/command.js';

/** A daemon was seen to take a minute for its start where the machine had much else to do. */
export const PATIENCE_SECONDS = 240;
const POLL_MS = 20;

/** Waits until the kernel has completed so many more writes of the device. */
export async function served(device: string, writes: number, load: Load): Promise<void> {
  const counted = await completedWrites(device);
  const deadline = performance.now() + PATIENCE_SECONDS * 1000;
  while ((await completedWrites(device)) < counted + writes) {
    load.throwIfFailed();
    assert(performance.now() < deadline, `${device} is not served`);
    await sleep(POLL_MS);
  }
}

/** Documentation/block/stat.rst: the fifth number. */
async function completedWrites(device: string): Promise<number> {
  const { rdev } = await stat(device);
  // gnu_dev_major and gnu_dev_minor, of small numbers.
  const counters = await readFile(`/sys/dev/block/${rdev >> 8}:${rdev & 0xff}/stat`, 'utf8');
  return Number(counters.trim().split(/\s+/)[4]);
}

/**
 * What the kernel has said of errors since it was `after` seconds up. That a disk cannot write zeroes is none: they are
 * written in another way then.
 */
export function ioErrors(after: number): string[] {
  const lines = execFileSync('dmesg', { encoding: 'utf8' }).split('\n');
  const isError = (line: string): boolean => /error/i.test(line) && !line.includes('operation not supported');
  return lines.filter((line) => isError(line) && Number(/^\[ *([\d.]+)\]/.exec(line)?.[1]) > after);
}

/** fio, again and again, on files of its own: random writes with fsync, then everything is read back. */
export class Load {
  rounds = 0;
  writes = 0;
  /** The longest that a write took, in milliseconds. */
  writeMsMax = 0;
  private isStopped = false;
  private failure: unknown = null;

  constructor(
    private readonly directory: string,
    /** Where fio reports to. */
    private readonly report: string,
    /** No more than an agent under emulation ships: a full ring would be a gap. */
    private readonly writesPerSecond = 300,
  ) {}

  /** Until stop() or a failure. */
  async run(): Promise<void> {
    try {
      while (!this.isStopped) await this.round();
    } catch (thrown) {
      this.failure = thrown;
    }
  }
  stop(): void {
    this.isStopped = true;
  }
  throwIfFailed(): void {
    if (this.failure !== null) throw this.failure as Error;
  }

  private async round(): Promise<void> {
    const file = path.join(this.directory, `round-${this.rounds % 2}`);
    const { report } = this;
    const io = ['--rw=randwrite', '--bs=4k', '--size=4M', '--ioengine=libaio', '--iodepth=8', '--direct=1'];
    const pace = ['--fsync=64', `--rate_iops=${this.writesPerSecond}`, `--randseed=${this.rounds}`];
    const verify = ['--verify=crc32c', '--do_verify=1', '--verify_fatal=1'];
    const output = ['--output-format=json', `--output=${report}`, '--eta=never'];
    const words = ['--name=vm', `--filename=${file}`, ...io, ...pace, ...verify, ...output];
    const fio = spawn('fio', words, { stdio: ['ignore', 'ignore', 'inherit'] });
    assert.equal(await ended(fio, 4 * PATIENCE_SECONDS), 0, 'fio read back what it had written');
    const { jobs } = JSON.parse(await readFile(report, 'utf8')) as FioReport;
    assert.equal(jobs[0]?.error, 0);
    this.rounds += 1;
    const { total_ios: writes, lat_ns: latency } = jobs[0].write;
    this.writes += writes;
    this.writeMsMax = Math.max(this.writeMsMax, Math.round(latency.max / 1e6));
  }
}

interface FioReport {
  jobs: { error: number; write: { total_ios: number; lat_ns: { max: number } } }[];
}
