/**
 * What somebody who helps from afar wants to see of this machine, as files: configurations, what the daemons say, their logs, facts of
 * kernel and devices. No keys, no data of volumes, and nothing that changes anything.
 */
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { readIdentity, validity } from '../service/identity.js';
import { systemError } from '../service/system_errors.js';

const COMMAND_MS_MAX = 20_000;
const OUTPUT_BYTES_MAX = 16 << 20;
const LOG_LINES = 5000;
const METRICS_MS_MAX = 5_000;

/** What is asked of the system, by the file that it goes into. */
const COMMANDS: Readonly<Record<string, readonly string[]>> = {
  'system/uname.txt': ['uname', '-a'],
  'system/modules.txt': ['lsmod'],
  'system/block-devices.txt': ['lsblk', '-o', 'NAME,KNAME,TYPE,SIZE,RO,FSTYPE,MOUNTPOINTS,MODEL'],
  'system/mounts.txt': ['findmnt', '-l'],
  'system/space.txt': ['df', '-h'],
  'system/loop-devices.txt': ['losetup', '--list'],
  'system/device-mapper.txt': ['dmsetup', 'table'],
  'system/kernel-log.txt': ['dmesg', '--ctime'],
  'system/memory.txt': ['free', '-h'],
  'system/packages.txt': ['dpkg-query', '-W', 'afterimage'],
  'service/agent.txt': ['systemctl', 'status', '--no-pager', '--lines=0', 'afterimage-agent.service'],
  'service/receiver.txt': ['systemctl', 'status', '--no-pager', '--lines=0', 'afterimage-receiver.service'],
  'logs/agent.jsonl': journal('afterimage-agent.service'),
  'logs/receiver.jsonl': journal('afterimage-receiver.service'),
};
const FILES: Readonly<Record<string, string>> = {
  'system/os-release.txt': '/etc/os-release',
  'system/fstab.txt': '/etc/fstab',
};

export interface BundleRequest {
  /** Where the archive is to be, absolute. */
  target: string;
  /** Configurations that are there or not, by daemon. */
  configs: Readonly<Record<string, string>>;
  /** Where identities of this host are, or not. */
  identity: string;
  /** "HOST:PORT" of the daemons' metrics, by daemon. */
  metrics: Readonly<Record<string, string>>;
  /** What the verbs of this command print, by the file that it goes into. */
  verbs: Readonly<Record<string, readonly string[]>>;
  /** This command: program and first arguments. */
  command: readonly string[];
  told: (file: string) => void;
}

/** Gives the files that are in the archive, which has mode 0600. Errors: TARGET_NOT_EMPTY, PERMISSION_DENIED, DISK_FULL, IO_ERROR. */
export async function makeBundle(request: BundleRequest): Promise<string[]> {
  const { target, configs, identity, metrics, verbs, command, told } = request;
  const work = await mkdtemp(path.join(tmpdir(), 'afterimage-support-'));
  const root = path.join(work, path.basename(target).replace(/\.tar\.gz$/, ''));
  const files: string[] = [];
  const add = async (name: string, text: string): Promise<void> => {
    const file = path.join(root, name);
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
    await writeFile(file, text, { mode: 0o600 });
    files.push(name);
    told(name);
  };
  try {
    await mkdir(root, { mode: 0o700 });
    for (const [daemon, file] of Object.entries(configs)) await add(`${daemon}.toml`, await textOf(file));
    await add('identity.json', await identityFacts(identity));
    for (const [name, args] of Object.entries(verbs)) await add(name, await outputOf([...command, ...args]));
    for (const [daemon, address] of Object.entries(metrics)) {
      for (const page of ['metrics', 'readyz?verbose'])
        await add(`${daemon}-${page.replace('?verbose', '')}.txt`, await pageOf(`http://${address}/${page}`));
    }
    for (const [name, words] of Object.entries(COMMANDS)) await add(name, await outputOf(words));
    for (const [name, file] of Object.entries(FILES)) await add(name, await textOf(file));
    const archive = path.join(work, 'archive.tar.gz');
    const packed = await outputOf(['tar', '-C', work, '-czf', archive, path.basename(root)]);
    if (packed !== '') throw new AfterimageError('IO_ERROR', `tar: ${packed.trim()}`);
    await chmod(archive, 0o600);
    await copyFile(archive, target, constants.COPYFILE_EXCL);
    return files;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'EEXIST')
      throw new AfterimageError('TARGET_NOT_EMPTY', `${target} is there already`, { cause: thrown });
    throw systemError(thrown, target);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

export function bundleName(now: number): string {
  const time = new Date(now).toISOString().replaceAll(/[-:]|\.\d+/g, '');
  return `afterimage-support-${hostname()}-${time}.tar.gz`;
}

function journal(unit: string): readonly string[] {
  return ['journalctl', '--no-pager', '-o', 'cat', '-n', String(LOG_LINES), '-u', unit];
}

/** What a command says, and how it ended where that was not well: a part that is missing is a part of the answer. */
function outputOf([program = '', ...args]: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    const options = { timeout: COMMAND_MS_MAX, maxBuffer: OUTPUT_BYTES_MAX };
    execFile(program, args, options, (error, stdout, stderr) =>
      resolve(`${stdout}${stderr}${error === null ? '' : `\n[${error.message.split('\n')[0] ?? ''}]\n`}`),
    );
  });
}

async function textOf(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((thrown: unknown) => `[${(thrown as Error).message}]\n`);
}

async function pageOf(url: string): Promise<string> {
  try {
    return await (await fetch(url, { signal: AbortSignal.timeout(METRICS_MS_MAX) })).text();
  } catch (thrown) {
    return `[${String(thrown)}]\n`;
  }
}

/** All but the key. */
async function identityFacts(file: string): Promise<string> {
  try {
    const identity = await readIdentity(file);
    if (identity === null) return '[this host has joined no receiver]\n';
    const { kind, name, role, receiver, store } = identity;
    const until = new Date(validity(identity).untilMs).toISOString();
    return `${JSON.stringify({ kind, name, role, receiver, store, until }, null, 2)}\n`;
  } catch (thrown) {
    return `[${toAfterimageError(thrown).message}]\n`;
  }
}
