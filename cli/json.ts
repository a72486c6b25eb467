/**
 * The daemons' answers as JSON (docs/CLI.md, "JSON"). The schema only ever grows. LSNs, generations and nanoseconds are
 * strings, since readers of JSON round numbers beyond 2^53; bytes and counts are numbers. An instant comes twice: `timeNs` and,
 * as RFC 3339, `time`; one that is not (0) is null.
 */
import { formatTime } from '../proto/time.js';

const EXACT = /^(lsn|generation)$|(Lsn|Ns)$/;
/** Fields in nanoseconds since 1970; the others are lengths of time. */
const INSTANTS = new Set([
  'timeNs',
  'beginNs',
  'endNs',
  'windowBeginNs',
  'windowEndNs',
  'createdNs',
  'finishedNs',
  'expiresNs',
  'usedNs',
  'joinedNs',
  'revokedNs',
  'lockedUntilNs',
]);

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A message of proto/control.ts as a value that JSON.stringify takes. */
export function jsonOf(message: unknown): Json {
  if (typeof message === 'bigint') return Number(message);
  if (Array.isArray(message)) return message.map(jsonOf);
  if (message === null || typeof message !== 'object') return message as Json;
  const fields: Record<string, Json> = {};
  for (const [key, value] of Object.entries(message)) {
    if (typeof value !== 'bigint') fields[key] = jsonOf(value);
    else if (INSTANTS.has(key)) {
      fields[key] = value === 0n ? null : value.toString();
      fields[key.slice(0, -'Ns'.length)] = value === 0n ? null : formatTime(value);
    } else fields[key] = EXACT.test(key) ? value.toString() : Number(value);
  }
  return fields;
}

/** One object on one line. */
export function jsonLine(value: Json): string {
  return `${JSON.stringify(value)}\n`;
}
