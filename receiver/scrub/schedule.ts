/** Scrubs every group now and then, by itself: the one whose last scrub is the longest ago first. */
import type { Log } from '../../service/log.js';
import type { Catalog } from '../catalog/catalog.js';
import { toCatalogError } from '../catalog/database.js';
import type { GroupRow } from '../catalog/members.js';
import type { Scrub } from './scrub.js';

export interface ScrubSettings {
  /** From the end of one scrub of a group to the beginning of the next, ns; null: never by itself. */
  everyNs: bigint | null;
  /** Bytes per second. */
  rateMax: bigint;
}
export interface ScrubScheduleParts {
  catalog: Catalog;
  scrub: Scrub;
  settings: ScrubSettings;
  /** The receiver's clock, and one that only goes forward. */
  nowNs: () => bigint;
  nowMs: () => number;
  /** How often it is looked whether one is due. */
  lookMs: number;
  log: Log;
}

/** A group that could not be scrubbed is left alone for so long: its other members are read again with it. */
const RETRY_MS = 86_400_000;

export class ScrubSchedule {
  /** When that was, by group. */
  private readonly failedMs = new Map<string, number>();
  private readonly stopping = new AbortController();
  private working: Promise<void> = Promise.resolve();
  private timer: NodeJS.Timeout | null = null;

  constructor(private readonly parts: ScrubScheduleParts) {}

  start(): void {
    if (this.parts.settings.everyNs === null) return;
    this.timer = setInterval(() => {
      this.working = this.working.then(() => this.look());
    }, this.parts.lookMs);
  }

  /** Interrupts a scrub of its own; it begins anew the next time. */
  async stop(): Promise<void> {
    if (this.timer !== null) clearInterval(this.timer);
    this.stopping.abort();
    await this.working;
  }

  private async look(): Promise<void> {
    const { scrub, settings, log, nowMs } = this.parts;
    if (scrub.step !== null || this.stopping.signal.aborted) return;
    let due: GroupRow | null = null;
    try {
      due = this.due();
      if (due === null) return;
      for await (const { damaged, done } of scrub.run([due], settings.rateMax, this.stopping.signal)) {
        if (done && damaged > 0n) log.error({ group: due.name, damaged }, 'a scrub has found damage');
      }
    } catch (thrown) {
      const err = toCatalogError(thrown);
      if (err.code === 'INTERRUPTED' || err.code === 'SCRUB_BUSY') return;
      if (due !== null) this.failedMs.set(due.uuid, nowMs());
      log.error({ err }, 'a scrub failed');
    }
  }

  private due(): GroupRow | null {
    const { catalog, settings, nowMs } = this.parts;
    const nowNs = this.parts.nowNs();
    const groups = catalog.members.groups().flatMap((group) => {
      if (nowMs() - (this.failedMs.get(group.uuid) ?? -Infinity) < RETRY_MS) return [];
      const last = catalog.members
        .members(group.uuid)
        // One that never was waits as long as any: a new store is not read at once.
        .map(({ uuid }) => catalog.scrubs.last(uuid)?.finishedNs ?? this.firstSeenNs(uuid))
        // The clock was ahead: nobody knows how long that is ago.
        .map((lastNs) => (lastNs > nowNs ? 0n : lastNs));
      return last.length === 0
        ? []
        : [{ group, lastNs: last.reduce((left, right) => (left < right ? left : right)) }];
    });
    const [oldest] = groups.sort((left, right) => (left.lastNs < right.lastNs ? -1 : 1));
    return oldest !== undefined && nowNs - oldest.lastNs >= (settings.everyNs ?? 0n) ? oldest.group : null;
  }

  /** When the receiver first heard of the member. */
  private firstSeenNs(member: string): bigint {
    return this.parts.catalog.generations.generations(member)[0]?.beginNs ?? this.parts.nowNs();
  }
}
