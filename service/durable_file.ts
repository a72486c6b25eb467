/** Small files that are either the old or the new one, whatever happens, and that survive a power cut. */
import { mkdir, open, readdir, rename, unlink } from 'node:fs/promises';
import path from 'node:path';

/** Replaces `file` (mode 0600) by one that holds `text`. On stable storage when the promise settles. */
export async function writeDurably(file: string, text: string): Promise<void> {
  // Another process may be about the same: `agent join` while the agent renews.
  const unfinished = `${file}.${process.pid}.tmp`;
  try {
    const handle = await open(unfinished, 'w', 0o600);
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(unfinished, file);
  } catch (thrown) {
    await unlink(unfinished).catch(() => undefined); // perhaps it was not even made
    throw thrown;
  }
  await syncDirectory(path.dirname(file));
}

/** Removes what processes that died in the middle of writeDurably(file) have left; the caller knows that nobody writes it now. */
export async function removeUnfinished(file: string): Promise<void> {
  const directory = path.dirname(file);
  const begin = `${path.basename(file)}.`;
  const left = (await readdir(directory)).filter(
    (name) => name.startsWith(begin) && /^\d+\.tmp$/.test(name.slice(begin.length)),
  );
  for (const name of left) await unlink(path.join(directory, name));
}

/** Makes what was created, renamed or removed in `directory` durable. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Makes `directory` where it is not there yet, with those above it, each on stable storage in the one that holds it: else a
 * power loss could take away what lies in it, however often that was synced. `sync`: for tests.
 */
export async function makeDirectoryDurably(
  directory: string,
  mode: number,
  sync: (directory: string) => Promise<void> = syncDirectory,
): Promise<void> {
  const first = await mkdir(directory, { recursive: true, mode });
  if (first === undefined) return;
  for (let made = path.resolve(directory); ; made = path.dirname(made)) {
    await sync(path.dirname(made));
    if (made === path.resolve(first)) return;
  }
}
