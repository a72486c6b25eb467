/** Source and replica, once nobody writes and everything is acknowledged (R2). */
import { readFile } from 'node:fs/promises';
import type { BackedVolume, World } from './world.js';

/** Those of the volumes of whose latest point the backing holds something else. */
export async function differing({ control }: World, volumes: readonly BackedVolume[]): Promise<string[]> {
  const latest = await control.recovered(
    volumes.map(({ name }) => name),
    'latest',
  );
  const names: string[] = [];
  for (const [index, { name, backing }] of volumes.entries())
    if (!(latest[index] as Buffer).equals(await readFile(backing))) names.push(name);
  return names;
}
