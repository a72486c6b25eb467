import { readFile } from 'node:fs/promises';

/** What the kernel says in one of its small files (sysfs, proc), without the newline; null where it says nothing. */
export function attribute(file: string): Promise<string | null> {
  return readFile(file, 'utf8').then(
    (text) => text.trim(),
    () => null,
  );
}
