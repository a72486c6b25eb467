/** Moments that are known from outside: at each, one block of a mounted file system says which of them it is. */
import assert from 'node:assert/strict';
import { mkdir, open, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { command } from '../../scenario/command.js';

const BLOCK = 4096;
const NAME = 'moment';

export class Moments {
  private readonly times: string[] = [];

  private constructor(
    /** Of the block, in the volume. */
    private readonly offset: number,
  ) {}

  /** Makes an ext4 file system with the block in it. `directory` is not there yet. */
  static async format(device: string, directory: string): Promise<Moments> {
    await mkdir(directory);
    // Zeroes would be a hole.
    await writeFile(path.join(directory, NAME), Buffer.alloc(BLOCK, 0xff));
    await command('mkfs.ext4', ['-q', '-F', '-b', String(BLOCK), '-d', directory, device]);
    const { stdout } = await command('debugfs', ['-R', `blocks /${NAME}`, device]);
    const block = Number(stdout.trim());
    assert(block > 0, `one block: ${stdout}`);
    return new Moments(block * BLOCK);
  }

  /** Now, by this machine's clock. `mount` is where the file system is mounted. */
  async mark(mount: string): Promise<void> {
    const handle = await open(path.join(mount, NAME), 'r+');
    try {
      await handle.write(content(this.times.length), 0, BLOCK, 0);
      await handle.sync();
    } finally {
      await handle.close();
    }
    this.times.push(new Date().toISOString());
  }

  /** `recovered` gives what the volume held at a time. */
  async verify(recovered: (time: string) => Promise<Buffer>): Promise<void> {
    for (const [index, time] of this.times.entries()) {
      const block = (await recovered(time)).subarray(this.offset, this.offset + BLOCK);
      assert(
        block.equals(content(index)),
        `at ${time} is what was there then: moment ${index}, not ${block[0]}`,
      );
    }
  }
}

const content = (index: number): Buffer => Buffer.alloc(BLOCK, index + 1);
