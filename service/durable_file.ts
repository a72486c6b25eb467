/** Small files that are either the old or the new one, whatever happens, and that survive a power cut. */
import { open, rename } from 'node:fs/promises';
import path from 'node:path';

/** Replaces `file` (mode 0600) by one that holds `text`. On stable storage when the promise settles. */
export async function writeDurably(file: string, text: string): Promise<void> {
  const unfinished = `${file}.tmp`;
  const handle = await open(unfinished, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(unfinished, file);
  await syncDirectory(path.dirname(file));
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
