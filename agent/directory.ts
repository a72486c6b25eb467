/** The agent's own directories: there after a power loss, and of one agent alone. */
import path from 'node:path';
import { AfterimageError } from '../proto/errors.js';
import { makeDirectoryDurably, syncDirectory } from '../service/durable_file.js';
import { refuseUnsafeDirectory } from '../service/safe_path.js';
import { systemError } from '../service/system_errors.js';
import * as native from '../native/index.js';

const OWNER_ONLY = 0o700;

/** As makeDirectoryDurably, for its owner alone. Errors: DISK_FULL, PERMISSION_DENIED, IO_ERROR. */
export async function makeDirectory(
  directory: string,
  sync: (directory: string) => Promise<void> = syncDirectory,
): Promise<void> {
  try {
    await makeDirectoryDurably(directory, OWNER_ONLY, sync);
  } catch (cause) {
    throw systemError(cause, `${directory} cannot be made`);
  }
}

/** Makes it, and keeps every other agent out until the descriptor is closed. Errors: STATE_BUSY, PATH_UNSAFE, PERMISSION_DENIED, IO_ERROR. */
export async function lockDirectory(directory: string): Promise<number> {
  await makeDirectory(directory);
  await refuseUnsafeDirectory(directory);
  const lock = native.lockFile(path.join(directory, 'agent.lock'));
  if (lock === null) throw new AfterimageError('STATE_BUSY', `${directory} is in use by another agent`);
  return lock;
}
