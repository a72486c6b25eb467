/**
 * Shortens one member's history: moves its bases over its oldest segments and lets these go. In this order, each step on
 * stable storage before the next begins:
 *
 *   raise    no point before the end of these segments can be asked for any more
 *   apply    their records, merged, go into each base in the order of its blocks (native/device/roll_forward.h)
 *   sync     the bases
 *   forget   the catalog: the bases include them; segments, and what only they needed, are gone
 *   remove   the files
 *
 * A crash leaves the member between two of them, and every point from the raised one on as it was: until `forget`, all that
 * the bases have of these segments is read from the segments. What was raised is gone on with in the next round; files
 * are removed at the next start.
 */
import type { PointOptions, RollForward } from '../../native/index.js';
import type { Log } from '../../service/log.js';
import { named } from '../../service/system_errors.js';
import type { BaseAccess } from '../base_access.js';
import type { Catalog } from '../catalog/catalog.js';
import type { MemberRow } from '../catalog/members.js';
import type { VolumeRow } from '../catalog/volumes.js';
import { removeDropped } from '../journal/dropped_files.js';
import type { MemberJournal } from '../journal/journal.js';
import type { Store } from '../store.js';

/** Where a test may end it. */
export type RollStage = 'raised' | 'applying' | 'applied' | 'synced' | 'forgotten' | 'removed';

export interface BaseRollParts {
  catalog: Catalog;
  store: Store;
  access: BaseAccess;
  native: { openRollForward(options: PointOptions): Promise<RollForward> };
  sleep: (ms: number) => Promise<void>;
  atStage: (stage: RollStage) => Promise<void> | void;
  log: Log;
}

export type RateMax = () => Promise<bigint | null>;

/** The end of the segments that go: the record that becomes the oldest point. */
export interface RollTarget {
  lsn: bigint;
  timeNs: bigint;
}

const PIECE_BYTES_MAX = 4n * 1024n * 1024n;
/** A piece is what the rate allows in this part of a second: who wants it to stop waits no longer. */
const PIECES_PER_SECOND = 8n;

export class BaseRoll {
  constructor(private readonly parts: BaseRollParts) {}

  /** Durably gives up what is before `target`. Checkpoints there are lost, and told. */
  raise({ uuid, group }: MemberRow, target: RollTarget): void {
    const { catalog, log } = this.parts;
    const held = catalog.windows.held(uuid);
    if (target.lsn <= held.oldestLsn) return;
    catalog.atomically(() => {
      for (const { name, lsn } of catalog.checkpoints.before(uuid, target.lsn)) {
        catalog.checkpoints.delete(group, name);
        log.warn(
          { member: uuid, checkpoint: name, lsn },
          'a checkpoint is older than what is held, and gone',
        );
      }
      catalog.windows.put(uuid, { ...held, oldestLsn: target.lsn, oldestTimeNs: target.timeNs });
    });
  }

  /**
   * All that follows `raise`, up to the oldest point. False when it was stopped; it can be called again.
   * `rateMax`: asked before each piece; bytes per second, null: no bound. Errors: SEGMENT_CORRUPT and IO_ERROR of the segments,
   * JOURNAL_FULL, JOURNAL_IO, BACKING_BUSY, and BASE_CORRUPT where only a part of a damaged block of a base would be written
   * over: what the segments have of it stays there until they have all of it.
   */
  async finish(
    row: MemberRow,
    journal: MemberJournal,
    rateMax: RateMax,
    isStopping: () => boolean,
  ): Promise<boolean> {
    const { catalog, store, access, atStage } = this.parts;
    const { oldestLsn } = catalog.windows.held(row.uuid);
    const roll = access.beginRoll(row.uuid);
    if (roll === null) return false;
    try {
      await atStage('raised');
      const volumes = catalog.volumes
        .volumes(row.uuid)
        .filter(({ baseState, baseLsn }) => baseState === 'BASE_COMPLETE' && baseLsn < oldestLsn);
      const control = { rateMax, isStopped: () => roll.isStopped || isStopping() };
      for (const volume of volumes) {
        if (!(await this.apply(row, journal, volume, oldestLsn, control))) return false;
      }
      if (control.isStopped()) return false;
      this.forget(row, journal, volumes, oldestLsn);
      await atStage('forgotten');
      // Those who found the files by the catalog before have opened them by then.
      await access.opened(row.uuid);
      await removeDropped(store.journalDirectory(row.group, row.uuid), oldestLsn);
      await atStage('removed');
      return true;
    } finally {
      roll.end();
    }
  }

  private async apply(
    row: MemberRow,
    journal: MemberJournal,
    volume: VolumeRow,
    lsn: bigint,
    { rateMax, isStopped }: { rateMax: RateMax; isStopped: () => boolean },
  ): Promise<boolean> {
    const { native, store, sleep, atStage } = this.parts;
    const tiles = journal.tiles(volume.baseLsn, lsn);
    const last = tiles.at(-1);
    if (last === undefined) return true;
    const basePath = store.baseFile(row.group, row.uuid, volume.uuid);
    const roll = await native.openRollForward({
      ...{ basePath, size: volume.size, blockSize: volume.blockSize, volume: volume.number, tiles },
      // Damage may have taken the end of the last one.
      lsn: last.segment.lastLsn,
    });
    try {
      for (let isDone = false; !isDone;) {
        if (isStopped()) return false;
        const rate = await rateMax();
        const share = rate === null ? PIECE_BYTES_MAX : rate / PIECES_PER_SECOND;
        const step = await roll.advance(share < PIECE_BYTES_MAX ? share : PIECE_BYTES_MAX);
        isDone = step.isDone;
        await atStage('applying');
        if (rate !== null && !isDone) await sleep(Number((step.bytesWritten * 1000n) / rate));
      }
      await atStage('applied');
      await named(roll.sync(), basePath, 'JOURNAL_FULL');
      await atStage('synced');
      return true;
    } finally {
      await roll.close();
    }
  }

  private forget(
    { uuid }: MemberRow,
    journal: MemberJournal,
    volumes: readonly VolumeRow[],
    lsn: bigint,
  ): void {
    const { catalog } = this.parts;
    catalog.atomically(() => {
      for (const { number, size, baseLsn } of volumes) {
        const isMoved = journal.tiles(baseLsn, lsn).length > 0; // then it became as long as the volume
        catalog.volumes.raiseBase(uuid, number, lsn, isMoved ? size : 0n);
      }
      catalog.segments.deleteUpTo(uuid, lsn);
      catalog.eras.deleteBefore(uuid, lsn);
      const own = catalog.generations.generations(uuid).findLast(({ firstLsn }) => firstLsn <= lsn);
      if (own !== undefined) {
        // However much of the journal is left: damage counts up to the last instant that it touches.
        catalog.damage.deleteBefore(uuid, lsn, own.generation);
        catalog.baseDamage.deleteBefore(uuid, lsn, own.generation);
        catalog.verifications.deleteBefore(uuid, lsn, own.generation);
        catalog.generations.deleteBefore(uuid, own.generation);
      }
      catalog.windows.put(uuid, { ...catalog.windows.held(uuid), droppedLsn: lsn });
    });
  }
}
