/**
 * Power is lost again while a receiver opens what the first loss has left: opening cuts, removes and begins files too.
 * Opens a state in a directory that records it, and returns the disk that this was done on.
 */
import type { Operation } from '../fault/operation_log.js';
import { FaultDirectory } from '../fault/fault_directory.js';
import type { Scratch } from '../scenario/scratch.js';
import { Disk, type DiskState } from './disk.js';

export interface SecondLoss {
  operations: Operation[];
  disk: Disk;
}

/** `directory`: of the state, which goes with it. `open`: opens it where it is told to. */
export async function recordOpening(
  scratch: Scratch,
  name: string,
  { files }: DiskState,
  directory: string,
  open: (mount: string) => Promise<void>,
): Promise<SecondLoss> {
  const existing = new Map(files.map((file) => [file.path, Buffer.from(file.content())]));
  const recorded = await FaultDirectory.start(scratch, name, directory);
  try {
    await open(recorded.mount);
  } finally {
    await recorded.stop();
  }
  const operations = (await recorded.operations()).filter(({ path }) => !path.endsWith('-shm'));
  return { operations, disk: new Disk(operations, existing) };
}
