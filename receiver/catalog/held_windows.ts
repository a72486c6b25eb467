/** How far retention has shortened the history of each member: the oldest point that is held. */
import type { Statement } from 'better-sqlite3';
import type { CatalogDatabase } from './database.js';

export interface HeldWindow {
  /** The oldest point that can be had; 0n: nothing was ever given up. */
  oldestLsn: bigint;
  /** Time of that record. */
  oldestTimeNs: bigint;
  /** Everything up to there is in the bases. `dropped ≤ oldest` */
  droppedLsn: bigint;
}
export const WHOLE: HeldWindow = { oldestLsn: 0n, oldestTimeNs: 0n, droppedLsn: 0n };

export class HeldWindowTable {
  private readonly select: Statement<[string], HeldWindow>;
  private readonly upsert: Statement<[HeldWindow & { member: string }]>;
  private readonly selectElapsed: Statement<[], { elapsedNs: bigint }>;
  private readonly updateElapsed: Statement<[bigint]>;

  constructor(database: CatalogDatabase) {
    this.select = database.prepare(`
      SELECT oldest_lsn AS oldestLsn, oldest_time_ns AS oldestTimeNs, dropped_lsn AS droppedLsn
      FROM held_windows WHERE member = ?`);
    this.upsert = database.prepare(`
      INSERT INTO held_windows (member, oldest_lsn, oldest_time_ns, dropped_lsn)
      VALUES (@member, @oldestLsn, @oldestTimeNs, @droppedLsn)
      ON CONFLICT (member) DO UPDATE SET oldest_lsn = excluded.oldest_lsn,
        oldest_time_ns = excluded.oldest_time_ns, dropped_lsn = excluded.dropped_lsn`);
    this.selectElapsed = database.prepare('SELECT elapsed_ns AS elapsedNs FROM running_time');
    this.updateElapsed = database.prepare('UPDATE running_time SET elapsed_ns = max(elapsed_ns, ?)');
  }

  held(member: string): HeldWindow {
    return this.select.get(member) ?? WHOLE;
  }
  put(member: string, window: HeldWindow): void {
    this.upsert.run({ member, ...window });
  }

  /** How long receivers have run on this store, as far as it was written down. */
  elapsedNs(): bigint {
    return this.selectElapsed.get()?.elapsedNs ?? 0n;
  }
  /** It never falls. */
  setElapsed(elapsedNs: bigint): void {
    this.updateElapsed.run(elapsedNs);
  }
}
