/**
 * A temporary directory and everything that was started in it: undone in reverse order, also after a failure, each step
 * even when the one before it failed; then nothing of it may be left, or the scenario has failed. What is left, by a
 * killed scenario too, is cleared up by a process that stands by.
 */
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { leftovers } from './leftovers.js';

const REAPER = fileURLToPath(new URL('reaper.js', import.meta.url));

/** The standing-by process of a scenario within this one's directory ends by itself, a moment after that scenario. */
const GRACE_MS = 5000;
const POLL_MS = 50;

type Undo = () => Promise<unknown> | void;

export class Scratch {
  private readonly undos: { what: string; undo: Undo }[] = [];
  private cleaning: Promise<void> | null = null;

  private constructor(readonly directory: string) {}

  static async create(name: string): Promise<Scratch> {
    const directory = await mkdtemp(path.join(os.tmpdir(), `afterimage-${name}-`));
    // PostgreSQL runs as a user of its own and must get through to its files.
    await chmod(directory, 0o711);
    const scratch = new Scratch(directory);
    scratch.standBy();
    scratch.defer('scratch directory', () => scratch.remove());
    return scratch;
  }

  path(...parts: string[]): string {
    return path.join(this.directory, ...parts);
  }

  /** Registers how to undo something that has just been done. */
  defer(what: string, undo: Undo): void {
    this.undos.push({ what, undo });
  }

  /** Undoes everything, once. Rejects, when all else is undone, with what could not be undone and what is left. */
  clean(): Promise<void> {
    this.cleaning ??= this.undoAll();
    return this.cleaning;
  }

  /** The last step. What is still there stays for the process that stands by, with the files that it goes by. */
  private async remove(): Promise<void> {
    const deadline = performance.now() + GRACE_MS;
    let left = await this.attached();
    for (; left.length > 0 && performance.now() < deadline; left = await this.attached())
      await sleep(POLL_MS);
    if (left.length > 0) throw new Error(`is left: ${left.join('; ')}`);
    await rm(this.directory, { recursive: true, force: true });
  }

  /** In words, what holds on to files of the directory. */
  private async attached(): Promise<string[]> {
    const { processes, mounts, loops } = await leftovers(this.directory);
    return [
      ...processes.map(({ pid, words }) => `process ${pid}: ${words}`),
      ...mounts.map((mount) => `mount ${mount}`),
      ...loops.map(({ device, file }) => `${device} over ${file}`),
    ];
  }

  /** Its standard input ends with this process, however that ends. */
  private standBy(): void {
    const reaper = spawn(process.execPath, [REAPER, this.directory], {
      stdio: ['pipe', 'ignore', 'inherit'],
      detached: true,
    });
    reaper.unref();
    (reaper.stdin as Socket).unref();
  }

  private async undoAll(): Promise<void> {
    const failures: string[] = [];
    for (let entry = this.undos.pop(); entry !== undefined; entry = this.undos.pop()) {
      try {
        await entry.undo();
      } catch (error) {
        failures.push(`${entry.what}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    if (failures.length > 0) throw new Error(`cleaning up: ${failures.join('\n')}`);
  }
}
