/** What cannot be taken back is asked first, with what it means. */
import { AfterimageError } from '../proto/errors.js';
import type { Surroundings } from './surroundings.js';

export interface Confirmation {
  /** "Revoke host db1?" */
  question: string;
  /** What becomes of it, in numbers where there are some; without a full stop. */
  consequence: string;
  /** What is true when it is not wanted: "host db1 was not revoked". */
  otherwise: string;
}

export interface AskOptions {
  yes?: true;
  json?: boolean;
}

/** Asks, unless `--yes` was said. Errors: USAGE where nobody can be asked, or `--json` is wanted; INTERRUPTED when the answer is no. */
export async function confirm(
  { question, consequence, otherwise }: Confirmation,
  { yes, json }: AskOptions,
  { ask }: Pick<Surroundings, 'ask'>,
): Promise<void> {
  if (yes === true) return;
  if (ask === null || json === true)
    throw new AfterimageError('USAGE', `${consequence}: say --yes where nobody can be asked`);
  if (!(await ask(`${question} ${consequence}.`))) throw new AfterimageError('INTERRUPTED', otherwise);
}
