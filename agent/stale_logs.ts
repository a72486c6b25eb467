/**
 * Dirty logs whose files lack marks since their disk takes no changes: the next agent would believe them. A stop waits for
 * those once production has ended, and while backings are still its own.
 */
import type { Log } from '../service/log.js';
import type { Clock } from './clock.js';

const POLL_MS = 100;

/** Waits until `stale` tells of none, or `end` aborts. Never rejects. */
export async function logsWithdrawn(
  stale: () => readonly { title: string }[],
  clock: Clock,
  log: Log,
  end: AbortSignal,
): Promise<void> {
  const titles = stale().map(({ title }) => title);
  if (titles.length === 0) return;
  log.warn(
    `the disk of the state directory takes no changes, and what it says of ${titles.join(', ')} lacks marks: the stop waits ` +
      'until it does, or this session has told the receiver; a second signal gives it up, and they must be verified then',
  );
  while (!end.aborted && stale().length > 0) await clock.sleep(POLL_MS, end).catch(() => undefined);
}
