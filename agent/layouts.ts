/**
 * The layouts of what an agent leaves to its successor (custody.ts), and whether a program that is to be the successor can
 * read them: it is asked before anything is handed over to it (DESIGN §4).
 */
import { execFile } from 'node:child_process';
import * as native from '../native/index.js';
import { SETTINGS_VERSION } from './served_settings.js';

/** By kind. */
export type Layouts = Readonly<Record<string, native.LayoutRange>>;

/** How long another program may take to answer: it starts a runtime on a machine that may be busy. */
const ANSWER_MS_MAX = 120_000;
/** Characters of an answer that are told. */
const SAID_MAX = 500;

export function layouts(): Layouts {
  return { ...native.layouts(), settings: { oldest: SETTINGS_VERSION, written: SETTINGS_VERSION } };
}

/** Why a program that reads `theirs` cannot go on with what one that writes `ours` leaves; null: it can. */
export function refusal(ours: Layouts, theirs: Layouts): string | null {
  const unread = Object.entries(ours).flatMap(([kind, { written }]) => {
    const range = theirs[kind];
    if (range !== undefined && range.oldest <= written && written <= range.written) return [];
    const read = range === undefined ? 'none' : `${range.oldest} to ${range.written}`;
    return [`${kind} of version ${written} (it reads ${read})`];
  });
  return unread.length === 0 ? null : `it cannot read ${unread.join(', ')}`;
}

/**
 * Asks the program that is where this one came from now, after an upgrade another one. Null: it can go on. When `signal`
 * aborts it is not waited for any more.
 */
export async function successorRefusal(signal: AbortSignal): Promise<string | null> {
  const args = [...process.execArgv, process.argv[1] ?? '', 'agent', 'layouts', '--json'];
  const patience = AbortSignal.timeout(ANSWER_MS_MAX);
  const options = { signal: AbortSignal.any([signal, patience]), killSignal: 'SIGKILL' } as const;
  return new Promise((resolve) => {
    // Also of a child that cannot be killed, whose end is never heard of.
    patience.addEventListener('abort', () => resolve('it does not answer'));
    // Not execPath, in which links are resolved: whoever upgrades a runtime may have changed one.
    execFile(process.argv0, args, options, (error, stdout, stderr) => {
      const said = stderr.trim().slice(0, SAID_MAX);
      if (error !== null)
        return resolve(`it does not say what it can read: ${said === '' ? error.message : said}`);
      try {
        resolve(refusal(layouts(), parse(stdout)));
      } catch {
        resolve(`it does not say what it can read, but ${JSON.stringify(stdout.slice(0, SAID_MAX))}`);
      }
    });
  });
}

/** Throws where that is no answer. */
function parse(text: string): Layouts {
  const answer = JSON.parse(text) as { layouts?: Record<string, Partial<native.LayoutRange> | null> };
  const ranges = Object.entries(answer.layouts ?? {}).map(([kind, range]) => {
    const [oldest, written] = [Number(range?.oldest), Number(range?.written)];
    if (!Number.isInteger(oldest) || !Number.isInteger(written)) throw new Error(`${kind}: no versions`);
    return [kind, { oldest, written }] as const;
  });
  return Object.fromEntries(ranges);
}
