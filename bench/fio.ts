/** fio, the load of every measurement: fixed seed, figures from its own JSON. */
import { spawn, type ChildProcess } from 'node:child_process';
import { ended } from '../test/scenario/command.js';

export interface Load {
  rw: 'randwrite' | 'write' | 'randread';
  /** Bytes per request. */
  blockBytes: number;
  depth: number;
  /** Either a run time in seconds … */
  seconds?: number;
  /** … or so many bytes, once … */
  bytes?: number;
  /** … or so many requests. */
  requests?: number;
  /** Requests per second at most. */
  rate?: number;
  /** How much of each block can be compressed away, in percent. Default: 50. */
  compressible?: number;
}
export interface Figures {
  iops: number;
  bytesPerSecond: number;
  requests: number;
  /** From its first request to the end of the flush behind its last one. */
  seconds: number;
  /** Completion latency, µs. */
  p50Us: number;
  p99Us: number;
}

/** Where the load goes: an NBD export, or a block device with direct I/O. */
export type Target = { uri: string } | { device: string };

const SEED = 42;
/** Beyond its own run time: until a backing has taken what lay in the page cache. */
const FURTHER_SECONDS_MAX = 600;

interface FioSide {
  iops: number;
  bw_bytes: number;
  total_ios: number;
  /** ms */
  runtime: number;
  clat_ns: { percentile?: Record<string, number> };
}

/** A run under way. */
export class Fio {
  private output = '';
  private errors = '';

  private constructor(
    private readonly child: ChildProcess,
    private readonly load: Load,
  ) {
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.errors += text));
  }

  static start(target: Target, load: Load): Fio {
    const child = spawn('fio', argumentsOf(target, load), { stdio: ['ignore', 'pipe', 'pipe'] });
    return new Fio(child, load);
  }

  /** Begins no further request until it is let go on. Its clock does not stop. */
  hold(): void {
    this.child.kill('SIGSTOP');
  }
  goOn(): void {
    this.child.kill('SIGCONT');
  }

  /** At once, also while it is held up. */
  end(): void {
    this.child.kill('SIGKILL');
  }

  async figures(): Promise<Figures> {
    const status = await ended(this.child, (this.load.seconds ?? 0) + FURTHER_SECONDS_MAX);
    if (status !== 0) throw new Error(`fio ended with ${status}\n${this.output}${this.errors}`);
    // Some engines print a line of their own before the JSON.
    const report = JSON.parse(this.output.slice(this.output.indexOf('{'))) as {
      jobs: { read: FioSide; write: FioSide }[];
    };
    const job = report.jobs[0];
    if (job === undefined) throw new Error('fio reported no job');
    const side = this.load.rw === 'randread' ? job.read : job.write;
    const percentileUs = (name: string): number => (side.clat_ns.percentile?.[name] ?? 0) / 1000;
    return {
      iops: side.iops,
      bytesPerSecond: side.bw_bytes,
      requests: side.total_ios,
      seconds: side.runtime / 1000,
      p50Us: percentileUs('50.000000'),
      p99Us: percentileUs('99.000000'),
    };
  }
}

export function fio(target: Target, load: Load): Promise<Figures> {
  return Fio.start(target, load).figures();
}

function argumentsOf(target: Target, load: Load): string[] {
  const args = ['--name=load', '--thread', '--output-format=json', `--randseed=${SEED}`, '--randrepeat=1'];
  args.push('--norandommap', '--group_reporting');
  if ('uri' in target) args.push('--ioengine=nbd', `--uri=${target.uri}`);
  else args.push('--ioengine=libaio', '--direct=1', `--filename=${target.device}`);
  args.push(`--rw=${load.rw}`, `--bs=${load.blockBytes}`, `--iodepth=${load.depth}`);
  if (load.rw !== 'randread') {
    // The flush is within the time that is counted.
    args.push('--end_fsync=1', `--buffer_compress_percentage=${load.compressible ?? 50}`);
  }
  if (load.seconds !== undefined) args.push('--time_based', `--runtime=${load.seconds}`);
  if (load.bytes !== undefined) args.push(`--io_size=${load.bytes}`);
  if (load.requests !== undefined)
    args.push(`--number_ios=${load.requests}`, `--io_size=${load.requests * load.blockBytes}`);
  if (load.rate !== undefined) args.push(`--rate_iops=${Math.floor(load.rate)}`);
  return args;
}
