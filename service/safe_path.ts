/** Directories and files that nobody else may have a hand in: what a daemon trusts lies there, and its keys. */
import { open, stat } from 'node:fs/promises';
import { AfterimageError } from '../proto/errors.js';
import { systemError } from './system_errors.js';

const OTHERS_WRITE = 0o022;
const OTHERS_ANY = 0o077;
const STICKY = 0o1000;
const ROOT = 0;

/**
 * Refuses a directory that another user owns, or in which others can put something in the place of what is there. One that is not
 * there is none. Errors: PATH_UNSAFE.
 */
export async function refuseUnsafeDirectory(directory: string): Promise<void> {
  const found = await stat(directory).catch(() => null); // whoever uses it says why it cannot
  if (found === null) return;
  const { uid, mode } = found;
  // In a sticky one, such as /tmp, what is there is its owner's alone.
  if ((mode & OTHERS_WRITE) !== 0 && (mode & STICKY) === 0)
    throw new AfterimageError('PATH_UNSAFE', `others than its owner can write to ${directory}`);
  refuseForeign(directory, uid);
}

/**
 * The text of a file with a key, which others can neither read nor have written; null: there is no such file. Errors: PATH_UNSAFE,
 * PERMISSION_DENIED, IO_ERROR.
 */
export async function readKeyFile(file: string): Promise<string | null> {
  try {
    return await readOwnFile(file);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw systemError(thrown, file);
  }
}

async function readOwnFile(file: string): Promise<string> {
  const handle = await open(file, 'r');
  try {
    const { uid, mode } = await handle.stat();
    if ((mode & OTHERS_ANY) !== 0)
      throw new AfterimageError(
        'PATH_UNSAFE',
        `others than its owner can read or write ${file}, which holds a key`,
      );
    refuseForeign(file, uid);
    return await handle.readFile('utf8');
  } finally {
    await handle.close();
  }
}

function refuseForeign(path: string, uid: number): void {
  if (uid === ROOT || uid === process.geteuid?.()) return;
  throw new AfterimageError('PATH_UNSAFE', `${path} belongs to another user (${uid})`);
}
