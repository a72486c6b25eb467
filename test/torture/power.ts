/** Power loss: of what was written to a recorded directory and not synced, chance decides what is there afterwards. */
import { mkdir, open, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { FaultDirectory } from '../fault/fault_directory.js';
import { Disk } from '../power_loss/disk.js';
import { SAMPLE_KINDS, sampleState } from '../power_loss/sampler.js';

/** Whoever used the directory has ended. A file that is still there is the same one, with what power loss left of it. */
export async function losePower(directory: FaultDirectory, random: () => number): Promise<void> {
  const disk = new Disk(await directory.operations());
  disk.advance(Infinity);
  const kind = SAMPLE_KINDS[Math.floor(random() * SAMPLE_KINDS.length)] ?? 'none';
  const { directories, files } = disk.choose(sampleState(disk, kind, random));
  const kept = new Set([...directories, ...files.map((file) => file.path)]);
  for (const name of await readdir(directory.mount, { recursive: true }))
    if (!kept.has(`/${name}`)) await rm(path.join(directory.mount, name), { recursive: true, force: true });
  for (const name of directories) await mkdir(path.join(directory.mount, name), { recursive: true });
  for (const file of files) await hold(path.join(directory.mount, file.path), file.content());
}

async function hold(file: string, content: Buffer): Promise<void> {
  const handle = await open(file, 'a').then(async (made) => {
    await made.close();
    return open(file, 'r+');
  });
  try {
    await handle.truncate(content.length);
    for (let at = 0; at < content.length;)
      at += (await handle.write(content, at, content.length - at, at)).bytesWritten;
    await handle.sync();
  } finally {
    await handle.close();
  }
}
