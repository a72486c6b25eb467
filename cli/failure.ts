/** How a command says what went wrong. */
import type { AfterimageError } from '../proto/errors.js';
import { jsonLine } from './json.js';
import type { Surroundings } from './surroundings.js';
import { painter } from './table.js';

/** "error CODE: message" and what to do about it, or the same as one JSON object, on stderr. */
export function reportFailure(error: AfterimageError, isJson: boolean, { stderr, env }: Surroundings): void {
  const { code, message, hint, retryable } = error;
  if (isJson) {
    stderr.write(jsonLine({ error: { code, message, hint, retryable } }));
    return;
  }
  const paint = painter(stderr, env);
  stderr.write(`${paint(`error ${code}:`, 'red')} ${message}\n  → ${hint}\n`);
}
