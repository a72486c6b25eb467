/** What a resync costs against what differed, where nobody writes meanwhile (R8). */
import { readFile } from 'node:fs/promises';
import type { World } from './world.js';

const BLOCK = 4096;
/** Of the records beside their content, and of the checksums that were asked for. */
const SENT_SHARE_MAX = 1.1;
/** Frames, and what is asked for, in a resync of next to nothing. */
const SENT_BYTES_FREE = 256 << 10;
const SETTLED_SECONDS_MAX = 60;

export interface Resync {
  bytesDiffering: number;
  bytesResynced: number;
  violation: string | null;
}

/** Compares production with what the receiver has, lets `connect` begin the resync, and looks at what it did. */
export async function measuredResync(world: World, connect: () => Promise<void>): Promise<Resync> {
  const { control, stamped } = world;
  const names = stamped.map(({ name }) => name);
  const before = await control.recovered(names, 'latest');
  let bytesDiffering = 0;
  for (const [index, { backing }] of stamped.entries())
    bytesDiffering += differingBytes(await readFile(backing), before[index] as Buffer);
  await connect();
  const { volumes } = await control.settled(SETTLED_SECONDS_MAX);
  // A database goes on.
  const compared = volumes.filter(({ name }) => names.includes(name));
  const bytesResynced = compared.reduce((sum, volume) => sum + Number(volume.resyncDifferingBytes), 0);
  const isBounded = bytesResynced <= SENT_SHARE_MAX * bytesDiffering + SENT_BYTES_FREE;
  const violation = isBounded ? null : `${bytesResynced} bytes were resynced, ${bytesDiffering} differed`;
  return { bytesDiffering, bytesResynced, violation };
}

function differingBytes(a: Buffer, b: Buffer): number {
  let count = 0;
  for (let at = 0; at < a.length; at += BLOCK)
    if (a.compare(b, at, at + BLOCK, at, at + BLOCK) !== 0) count += BLOCK;
  return count;
}
