/**
 * The kernel's device mapper, by `dmsetup` (package dmsetup): what a verb needs of it now and then is not worth its ioctls.
 * A device whose I/O is to wait is changed without waiting for udev, some rule of which may read it.
 */
import { spawn } from 'node:child_process';
import { AfterimageError } from '../proto/errors.js';

/** A suspension waits for the requests under way: of a disk that hangs, for ever. */
const SECONDS_MAX = 120;
const OUTPUT_BYTES_MAX = 1 << 20;

/**
 * Runs dmsetup with `args`, and `table` on its standard input; gives what it prints. Errors: MAPPER_UNAVAILABLE,
 * MAPPER_FAILED, VOLUME_BUSY (somebody has a device of it open), PERMISSION_DENIED.
 */
export type Dmsetup = (args: readonly string[], table?: string) => Promise<string>;

export interface MapperEntry {
  /** "MAJOR:MINOR". */
  number: string;
  /** Its I/O waits, whatever its table is. */
  isSuspended: boolean;
  uuid: string;
}

export class DeviceMapper {
  constructor(private readonly dmsetup: Dmsetup = runDmsetup) {}

  /** All of its devices, by name. */
  async entries(): Promise<Map<string, MapperEntry>> {
    // A name has no "/".
    const columns = ['--separator', '/', '-o', 'major,minor,suspended,name,uuid'];
    const entries = new Map<string, MapperEntry>();
    for (const line of (await this.dmsetup(['info', '-c', '--noheadings', ...columns])).split('\n')) {
      const [major = '', minor = '', state, name, ...uuid] = line.trim().split('/');
      if (name === undefined) continue; // "No devices found"
      const isSuspended = state === 'Suspended';
      entries.set(name, { number: `${major}:${minor}`, isSuspended, uuid: uuid.join('/') });
    }
    return entries;
  }

  /** What the device does now, a line for each of its targets. */
  async table(name: string): Promise<string[]> {
    return lines(await this.dmsetup(['table', name]));
  }
  async status(name: string): Promise<string> {
    return (await this.dmsetup(['status', name])).trim();
  }

  async create(name: string, uuid: string, table: readonly string[]): Promise<void> {
    await this.dmsetup(['create', name, '--uuid', uuid, '--verifyudev'], text(table));
  }
  /** It tries for some seconds, since somebody may be just looking at it. */
  async remove(name: string): Promise<void> {
    await this.dmsetup(['remove', '--retry', '--verifyudev', name]);
  }
  async rename(name: string, to: string): Promise<void> {
    await this.dmsetup(['rename', '--verifyudev', name, to]);
  }

  /**
   * Another table in the place of the present one: requests wait meanwhile, and none fails. Where it ends too soon, doing it
   * again is right. A file system is not frozen for it, since what it has under way is done before or after. What waits in
   * a table is handed to the next one, and not failed, because of --noflush.
   */
  async replace(name: string, table: readonly string[]): Promise<void> {
    await this.dmsetup(['load', name], text(table));
    await this.dmsetup(['suspend', '--noflush', '--nolockfs', '--noudevsync', name]);
    await this.dmsetup(['resume', '--noudevsync', name]);
  }

  /** Forgets a table that was to be the next one, and with it the claims that it has already. */
  async discard(name: string): Promise<void> {
    await this.dmsetup(['clear', name]);
  }
}

const lines = (output: string): string[] => output.split('\n').filter((line) => line.trim() !== '');
const text = (table: readonly string[]): string => table.map((line) => `${line}\n`).join('');

const runDmsetup: Dmsetup = (args, table = '') =>
  new Promise((resolve, reject) => {
    const env = { ...process.env, LC_ALL: 'C' };
    const child = spawn('dmsetup', args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
    let output = '';
    let complaint = '';
    const what = `dmsetup ${args.join(' ')}`;
    const timer = setTimeout(() => {
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      reject(new AfterimageError('MAPPER_FAILED', `${what} has not ended after ${SECONDS_MAX} s`));
    }, SECONDS_MAX * 1000);
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      if (output.length < OUTPUT_BYTES_MAX) output += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      if (complaint.length < OUTPUT_BYTES_MAX) complaint += chunk;
    });
    child.stdin.on('error', () => undefined); // it may end without reading
    child.stdin.end(table);
    child.once('error', (cause) => {
      clearTimeout(timer);
      reject(new AfterimageError('MAPPER_UNAVAILABLE', `${what}: ${cause.message}`, { cause }));
    });
    child.once('close', (status) => {
      clearTimeout(timer);
      if (status === 0) resolve(output);
      else reject(refusal(what, complaint));
    });
  });

function refusal(what: string, complaint: string): AfterimageError {
  const said = complaint.trim().replaceAll('\n', '; ');
  const isUnavailable = /mapper\/control|Failure to communicate with kernel/.test(said);
  const code = /busy/i.test(said)
    ? 'VOLUME_BUSY'
    : /Permission denied|Operation not permitted/.test(said)
      ? 'PERMISSION_DENIED'
      : isUnavailable
        ? 'MAPPER_UNAVAILABLE'
        : 'MAPPER_FAILED';
  return new AfterimageError(code, `${what}: ${said}`);
}
