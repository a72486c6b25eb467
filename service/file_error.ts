/** What it means that the operating system refuses a file or a directory. */
import { AfterimageError } from '../proto/errors.js';

/** EROFS too: nothing is wrong with the disk, somebody mounted it so. */
const FORBIDDEN: readonly unknown[] = ['EACCES', 'EPERM', 'EROFS'];

/** Whether this user may not do it, in contrast to a disk or file system that failed. */
export function isForbidden(thrown: unknown): boolean {
  return FORBIDDEN.includes((thrown as { code?: unknown } | null)?.code);
}

/** PERMISSION_DENIED or IO_ERROR; `what` names the file and what could not be done with it. */
export function fileError(thrown: unknown, what: string): AfterimageError {
  const code = isForbidden(thrown) ? 'PERMISSION_DENIED' : 'IO_ERROR';
  return new AfterimageError(code, `${what}: ${(thrown as Error).message}`, { cause: thrown });
}
