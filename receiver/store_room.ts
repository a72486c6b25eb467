/** How much room the file system of the store has, and how much of it is kept for shortening history when it is full. */
import { statfs } from 'node:fs/promises';
import { named } from '../service/system_errors.js';

const MIB = 1024n * 1024n;
/** Of a small file system: a sixteenth. */
const SMALL_PART = 16n;

/** Bytes that somebody without privileges could still write there. Errors: IO_ERROR. */
export async function freeBytes(directory: string): Promise<bigint> {
  const { bavail, bsize } = await named(statfs(directory, { bigint: true }), directory);
  return bavail * bsize;
}

/**
 * What ingest leaves free: for what a base gains when it is moved over a segment, for the catalog, and for runs. Errors:
 * IO_ERROR.
 */
export async function headroom(directory: string, segmentBytes: bigint): Promise<bigint> {
  const { blocks, bsize } = await named(statfs(directory, { bigint: true }), directory);
  const wanted = 2n * segmentBytes + 32n * MIB;
  const part = (blocks * bsize) / SMALL_PART;
  return part < wanted ? part : wanted;
}
