import { setTimeout as sleep } from 'node:timers/promises';

const SECONDS_MAX = 60;
const LOOK_MS = 20;

/** Resolves as soon as `is`; rejects, with what was awaited, when it is not within a minute. */
export async function until(what: string, is: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + SECONDS_MAX * 1000; !(await is()); await sleep(LOOK_MS))
    if (Date.now() > deadline) throw new Error(`not ${what} after ${SECONDS_MAX} s`);
}
