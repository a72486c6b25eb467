/**
 * A directory whose every change is recorded, and in which operations go wrong on demand: starts and stops the program
 * fault_directory.cc, and speaks with it. What it can do, and what it is not, is told there.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { command, ended } from '../scenario/command.js';
import type { Scratch } from '../scenario/scratch.js';
import { readOperationLog, type Operation } from './operation_log.js';

const SOURCES = fileURLToPath(new URL('../../../test/fault', import.meta.url));
const PROGRAM = fileURLToPath(new URL('../../../build/fault/fault-directory', import.meta.url));
const START_MS_MAX = 10_000;
const STOP_SECONDS_MAX = 30;

export interface FaultRule {
  op:
    | 'any'
    | 'read'
    | 'write'
    | 'truncate'
    | 'fallocate'
    | 'create'
    | 'open'
    | 'rename'
    | 'unlink'
    | 'link'
    | 'mkdir'
    | 'sync'
    | 'syncdir';
  /** fnmatch(3) against the path from the root of the directory, in which `*` goes over `/` too. No white space. */
  path: string;
  do: 'fail' | 'short' | 'torn' | 'delay';
  errno?: 'EIO' | 'ENOSPC' | 'EDQUOT' | 'EROFS' | 'EMFILE';
  /** short: so many are written. torn: whole up to there, then every second sector. */
  bytes?: number;
  /** delay: microseconds. */
  us?: number;
  /** So many that match are spared first. */
  after?: number;
  /** Then so many are struck; 0: all. */
  times?: number;
}
export interface RuleReport {
  id: number;
  seen: number;
  struck: number;
}

export class FaultDirectory {
  private constructor(
    private readonly child: ChildProcess,
    /** What it shows, without faults. */
    readonly backing: string,
    /** Where it shows it. */
    readonly mount: string,
    /** The file that it records to. */
    readonly log: string,
    private readonly control: string,
  ) {}

  /**
   * One below `scratch`, gone with it: new and empty, or of what is in `existing`, which is its own from then on. Builds the
   * program where it is out of date.
   */
  static async start(
    scratch: Scratch,
    name: string,
    existing: string | null = null,
  ): Promise<FaultDirectory> {
    await command('make', ['-s', '-C', SOURCES], { secondsMax: 300 });
    const at = (suffix: string): string => scratch.path(`${name}.${suffix}`);
    const [backing, log, control] = [existing ?? at('backing'), at('operations'), at('control')];
    const mount = scratch.path(name);
    if (existing === null) await mkdir(backing);
    await mkdir(mount);
    const child = spawn(PROGRAM, [backing, mount, log, control], {
      stdio: ['ignore', 'ignore', 'inherit'],
      detached: true, // a Ctrl-C in the terminal is for whoever started it, who still needs it to stop what uses it
    });
    const directory = new FaultDirectory(child, backing, mount, log, control);
    scratch.defer(`fault directory ${name}`, () => directory.stop());
    for (const deadline = Date.now() + START_MS_MAX; !(await directory.answers());) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error('fault-directory did not start');
      await sleep(20);
    }
    return directory;
  }

  /** Returns the rule's number. */
  async add(rule: FaultRule): Promise<number> {
    const words = Object.entries(rule).map(([key, value]) => `${key}=${value}`);
    const [answer = ''] = await this.ask(`add ${words.join(' ')}`);
    return Number(answer.slice('ok '.length));
  }
  /** One rule, or all of them. */
  async clear(id = 0): Promise<void> {
    await this.ask(`clear ${id}`);
  }
  async report(): Promise<RuleReport[]> {
    const lines = await this.ask('report');
    return lines.slice(0, -1).map((line) => {
      const [id = 0, seen = 0, struck = 0] = line.split(' ').map(Number);
      return { id, seen, struck };
    });
  }
  /** The number of the last moment so far. */
  async moment(): Promise<number> {
    const [answer = ''] = await this.ask('moment');
    return Number(answer.slice('ok '.length));
  }

  /** Until thaw() it answers nothing, and reads no request: whoever waits for it can be killed. */
  freeze(): void {
    this.child.kill('SIGSTOP');
  }
  thaw(): void {
    this.child.kill('SIGCONT');
  }

  /** All that was recorded up to now. */
  async operations(): Promise<Operation[]> {
    if (existsSync(this.control) && this.child.exitCode === null) await this.ask('flush');
    return readOperationLog(this.log);
  }

  /** From now on nothing in it is answered, until goOn(). */
  hang(): void {
    this.child.kill('SIGSTOP');
  }
  goOn(): void {
    this.child.kill('SIGCONT');
  }

  /** Unmounts it: whoever uses it must have ended. The record stays. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.goOn();
    this.child.kill('SIGTERM');
    const status = await ended(this.child, STOP_SECONDS_MAX);
    await rm(this.control, { force: true });
    if (status !== 0) {
      await command('umount', ['-l', this.mount], { accept: [1, 32] });
      throw new Error(`fault-directory ended with ${status}`);
    }
  }

  private async answers(): Promise<boolean> {
    if (!existsSync(this.control)) return false;
    const { status } = await command('mountpoint', ['-q', this.mount], { accept: [1, 32] });
    return status === 0;
  }

  /** The lines of an answer; the last one is "ok …". */
  private async ask(line: string): Promise<string[]> {
    const socket = net.createConnection(this.control);
    let text = '';
    try {
      for await (const chunk of (socket.write(`${line}\n`), socket)) {
        text += String(chunk);
        const lines = text.trimEnd().split('\n');
        const last = lines.at(-1) ?? '';
        if (!text.endsWith('\n')) continue;
        if (last.startsWith('error ')) throw new Error(`fault-directory: ${last}`);
        if (last === 'ok' || last.startsWith('ok ')) return lines;
      }
    } finally {
      socket.destroy();
    }
    throw new Error(`fault-directory gave no answer to: ${path.basename(this.control)} ${line}`);
  }
}
