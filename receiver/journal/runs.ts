/**
 * Builds the runs of sealed segments in the background, one at a time. A run only makes opening a point faster: where
 * one is missing its segment is scanned instead, so a failure is logged and tried again when the next segment is
 * sealed: a full disk is so for a while, and a damaged segment leaves the list (damage_watch.ts).
 */
import type { SegmentInfo } from '../../native/index.js';
import type { Log } from '../../service/log.js';
import { toAfterimageError } from '../../proto/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import type { SegmentRow } from '../catalog/segments.js';
import { runFile, type Store } from '../store.js';
import { segmentInfo } from './segment_row.js';

/** Segments of one round whose run could not be built; beyond this the disk is the problem, and the round ends. */
const FAILED_MAX = 16;

export interface RunBuildsOptions {
  catalog: Catalog;
  store: Store;
  log: Log;
  buildRun: (segment: SegmentInfo, file: string) => Promise<void>;
}

export class RunBuilds {
  /** In the present round. */
  private readonly failed = new Set<string>();
  private working: Promise<void> | null = null;
  private isClosing = false;

  constructor(private readonly options: RunBuildsOptions) {}

  /** A segment was sealed, or may be without a run. What is to do lies in the catalog: there is no queue. */
  wake(): void {
    if (this.isClosing) return;
    this.working ??= this.buildAll()
      .catch((thrown: unknown) => {
        // The catalog cannot be read: the next sealed segment tries again.
        this.options.log.warn({ err: toAfterimageError(thrown) }, 'no run could be built');
      })
      .finally(() => {
        this.working = null;
      });
  }

  /** Whether a round is under way. */
  get isBusy(): boolean {
    return this.working !== null;
  }

  /** Waits for the build under way. */
  async close(): Promise<void> {
    this.isClosing = true;
    await this.working;
  }

  private async buildAll(): Promise<void> {
    this.failed.clear();
    for (let row = this.next(); row !== null && !this.isClosing; row = this.next()) await this.build(row);
  }

  private async build(row: SegmentRow): Promise<void> {
    const { catalog, store, log, buildRun } = this.options;
    const group = catalog.members.member(row.member)?.group;
    if (group === undefined) throw new Error(`segment ${row.firstLsn} of no member`);
    const file = store.segmentFile(group, row.member, row.firstLsn);
    try {
      await buildRun(segmentInfo(row, file), runFile(file));
      catalog.segments.setRun(row.member, row.firstLsn, true);
    } catch (thrown) {
      this.failed.add(key(row));
      log.warn(
        { err: toAfterimageError(thrown), segment: file },
        'no run could be built: its segment is scanned instead',
      );
    }
  }

  private next(): SegmentRow | null {
    if (this.failed.size >= FAILED_MAX) return null;
    const rows = this.options.catalog.segments.withoutRun(this.failed.size + 1);
    return rows.find((row) => !this.failed.has(key(row))) ?? null;
  }
}

function key({ member, firstLsn }: SegmentRow): string {
  return `${member}/${firstLsn}`;
}
