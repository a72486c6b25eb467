/**
 * A temporary directory and everything that was started in it: undone in reverse order, also after a failure, each step
 * even when the one before it failed. What a killed scenario leaves is cleared up by a process that stands by.
 */
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { leftovers } from './leftovers.js';

const REAPER = fileURLToPath(new URL('reaper.js', import.meta.url));

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

  /** Undoes everything, once; says on stderr what could not be undone. */
  clean(): Promise<void> {
    this.cleaning ??= this.undoAll();
    return this.cleaning;
  }

  /** Never through a mount that could not be taken down. */
  private async remove(): Promise<void> {
    const { mounts } = await leftovers(this.directory);
    if (mounts.length > 0) throw new Error(`still mounted: ${mounts.join(', ')}`);
    await rm(this.directory, { recursive: true, force: true });
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
    for (let entry = this.undos.pop(); entry !== undefined; entry = this.undos.pop()) {
      try {
        await entry.undo();
      } catch (error) {
        console.error(`cleaning up: ${entry.what}: ${String(error)}`);
      }
    }
  }
}
