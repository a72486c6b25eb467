/** The daemons' log: JSON lines on stderr. Numbers of 64 bits are text there, since readers of JSON round them. */
import pino, { type DestinationStream, type Logger } from 'pino';
import { AfterimageError } from '../proto/errors.js';
import { countError } from './error_counts.js';
import type { LogLevel } from './settings.js';

export type Log = Logger;

/** What is kept of lines that could not be written, bytes; later ones are dropped. */
const UNWRITTEN_BYTES_MAX = 1 << 20;
/** pino's number of that level. */
const WARN = 40;
/** How deep a logged object is searched for numbers of 64 bits. */
const DEPTH_MAX = 4;

/**
 * A log that names its daemon in every line. Parts get `log.child({group: …})`. Lines are written at once: the last
 * ones before a crash are those that matter. `to` replaces stderr.
 */
export function createLog(daemon: string, level: LogLevel, to: DestinationStream = stderr()): Log {
  return pino(
    {
      level,
      base: { daemon, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: {
        level: (label) => ({ level: label }),
        log: (object) => jsonSafe(object, DEPTH_MAX) as Record<string, unknown>,
      },
      serializers: { err: errorFields },
      hooks: {
        logMethod(args, method, levelNumber) {
          if (levelNumber >= WARN) countError(args[0]);
          method.apply(this, args);
        },
      },
    },
    to,
  );
}

function stderr(): DestinationStream {
  const destination = pino.destination({ dest: 2, sync: true, maxLength: UNWRITTEN_BYTES_MAX });
  // A log that cannot be written (a full disk, a terminal that is gone) must not end the daemon: production goes first.
  destination.on('error', () => undefined);
  return destination;
}

function errorFields(thrown: unknown): unknown {
  if (!(thrown instanceof Error)) return thrown;
  const coded = thrown instanceof AfterimageError ? { code: thrown.code, hint: thrown.hint } : {};
  return { ...coded, message: thrown.message, stack: thrown.stack };
}

function jsonSafe(value: unknown, depth: number): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (value === null || typeof value !== 'object' || depth === 0) return value;
  if (Array.isArray(value)) return value.map((item) => jsonSafe(item, depth - 1));
  // Errors have serializers, Buffers and Dates their own toJSON.
  if (Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, jsonSafe(item, depth - 1)]));
}
