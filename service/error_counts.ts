/** How often a daemon has logged each code, warnings and worse. */
import { isErrorCode, type ErrorCode } from '../proto/errors.js';

const counts = new Map<ErrorCode, number>();

/** Of a log entry's fields: `code`, or that of `err`. Others, and what is no code, are not counted. */
export function countError(fields: unknown): void {
  if (fields === null || typeof fields !== 'object') return;
  const { code, err } = fields as { code?: unknown; err?: { code?: unknown } | null };
  const named = code ?? err?.code;
  if (isErrorCode(named)) counts.set(named, (counts.get(named) ?? 0) + 1);
}

export function errorCounts(): ReadonlyMap<ErrorCode, number> {
  return counts;
}
