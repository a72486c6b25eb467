/** Source and replica, once nobody writes and everything is acknowledged (R2). */
import { readFile } from 'node:fs/promises';
import type { World } from './world.js';

/** The volumes of whose latest point the backing holds something else. */
export async function differing({ control, stamped }: World): Promise<string[]> {
  const latest = await control.recovered(
    stamped.map(({ name }) => name),
    'latest',
  );
  const names: string[] = [];
  for (const [index, { name, backing }] of stamped.entries())
    if (!(latest[index] as Buffer).equals(await readFile(backing))) names.push(name);
  return names;
}
