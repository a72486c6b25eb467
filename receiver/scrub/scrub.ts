/**
 * Reads members' journals and bases again in full, from the disk, while everything goes on: what has rotted is recorded
 * (journal/damage_watch.ts, base_damage.ts) before somebody needs it. One scrub at a time, at a bounded rate.
 */
import type * as native from '../../native/index.js';
import { AfterimageError, toAfterimageError } from '../../proto/errors.js';
import { parseUuid } from '../../proto/uuid.js';
import type { Log } from '../../service/log.js';
import { Pace } from '../../service/pace.js';
import type { BaseAccess } from '../base_access.js';
import type { BaseDamage } from '../base_damage.js';
import type { Catalog } from '../catalog/catalog.js';
import { toCatalogError } from '../catalog/database.js';
import type { GroupRow, MemberRow } from '../catalog/members.js';
import type { SegmentRow } from '../catalog/segments.js';
import type { VolumeRow } from '../catalog/volumes.js';
import type { DamageWatch } from '../journal/damage_watch.js';
import { readSegment } from '../journal/inspection.js';
import { segmentInfo } from '../journal/segment_row.js';
import type { Store } from '../store.js';

export interface ScrubParts {
  catalog: Catalog;
  store: Store;
  access: Pick<BaseAccess, 'withoutRoll'>;
  native: Pick<typeof native, 'scanSegment' | 'scrubBase' | 'sumBase'>;
  watch: Pick<DamageWatch, 'found' | 'idle'>;
  baseDamage: Pick<BaseDamage, 'found' | 'lost' | 'idle'>;
  /** The receiver's clock, and one that only goes forward. */
  nowNs: () => bigint;
  nowMs: () => number;
  sleep: (ms: number) => Promise<void>;
  log: Log;
}
/** How far the scrub of one member is. */
export interface ScrubStep {
  group: string;
  member: string;
  host: string;
  bytesDone: bigint;
  bytesTotal: bigint;
  /** Segments and blocks of bases that were found damaged so far. */
  damaged: bigint;
  /** Blocks of bases that had lost their checksum, and were given a new one. */
  unsummed: bigint;
  /** The member is done. */
  done: boolean;
}

/** Of a base, between two steps. */
const BASE_PIECE_BYTES = 16n * 1024n * 1024n;

export class Scrub {
  private present: ScrubStep | null = null;

  constructor(private readonly parts: ScrubParts) {}

  /** The step that was told last of the scrub under way; null: there is none. */
  get step(): ScrubStep | null {
    return this.present;
  }

  /**
   * Scrubs the members of `groups`, one after the other; one that cannot be read keeps no other from it, and is told at the
   * end. `rate`: bytes per second, null: no bound. Errors: SCRUB_BUSY, INTERRUPTED, PERMISSION_DENIED, IO_ERROR.
   */
  async *run(
    groups: readonly GroupRow[],
    rate: bigint | null,
    signal: AbortSignal,
  ): AsyncGenerator<ScrubStep, void> {
    if (this.present !== null) {
      throw new AfterimageError('SCRUB_BUSY', `${this.present.group} is being scrubbed`);
    }
    const { catalog, nowMs, sleep, log } = this.parts;
    let fault: AfterimageError | null = null;
    const pace = new Pace(rate, { nowMs, sleep, signal });
    try {
      for (const group of groups) {
        for (const member of catalog.members.members(group.uuid)) {
          try {
            yield* this.scrubMember(group, member, pace, signal);
          } catch (thrown) {
            if (signal.aborted) throw thrown;
            const { code, message } = toCatalogError(thrown);
            const err = new AfterimageError(code, `${group.name} on ${member.host}: ${message}`, {
              cause: thrown,
            });
            log.error({ err }, 'a member could not be scrubbed');
            fault ??= err;
          }
        }
      }
    } finally {
      this.present = null;
    }
    if (fault !== null) throw fault;
  }

  private async *scrubMember(
    group: GroupRow,
    member: MemberRow,
    pace: Pace,
    signal: AbortSignal,
  ): AsyncGenerator<ScrubStep, void> {
    const { catalog, nowNs, log, watch, baseDamage } = this.parts;
    const segments = catalog.segments.segments(member.uuid);
    const bases = catalog.volumes
      .volumes(member.uuid)
      .filter(({ baseState }) => baseState === 'BASE_COMPLETE');
    const step: ScrubStep = {
      ...{
        group: group.name,
        member: member.uuid,
        host: member.host,
        damaged: 0n,
        unsummed: 0n,
        done: false,
      },
      bytesDone: 0n,
      bytesTotal: [...segments.map(({ bytes }) => bytes), ...bases.map(({ size }) => size)].reduce(
        (sum, bytes) => sum + bytes,
        0n,
      ),
    };
    const read = async (bytes: bigint, damaged: number, unsummed = 0n): Promise<ScrubStep> => {
      step.bytesDone += bytes;
      step.damaged += BigInt(damaged);
      step.unsummed += unsummed;
      this.present = { ...step };
      await pace.spent(bytes);
      if (signal.aborted) throw new AfterimageError('INTERRUPTED', `the scrub of ${group.name} was stopped`);
      return this.present;
    };
    yield await read(0n, 0);
    for (const row of segments) {
      yield await read(row.bytes, (await this.isDamaged(member, row)) ? 1 : 0);
    }
    for (const volume of bases) {
      for await (const { bytes, damaged, unsummed } of this.scrubBase(member, volume)) {
        yield await read(bytes, damaged, unsummed);
      }
    }
    await watch.idle();
    await baseDamage.idle();
    const { bytesDone: bytes, damaged, unsummed } = step;
    catalog.scrubs.put({ member: member.uuid, finishedNs: nowNs(), bytes, damaged, unsummed });
    log.info({ group: group.name, host: member.host, bytes, damaged, unsummed }, 'scrubbed');
    yield { ...step, bytesDone: step.bytesTotal, done: true };
  }

  /** The segment is read up to where it was known to reach: it may be growing. */
  private async isDamaged(member: MemberRow, row: SegmentRow): Promise<boolean> {
    const { catalog, store, native, watch } = this.parts;
    const file = store.segmentFile(member.group, member.uuid, row.firstLsn);
    const identity = { group: parseUuid(member.group), member: parseUuid(member.uuid) };
    const { info } = await readSegment(file, identity, native.scanSegment);
    if ((info?.lastLsn ?? 0n) >= row.lastLsn) return false;
    // Retention lets go of segments meanwhile; one that is gone while the catalog still has it is lost.
    if (catalog.segments.atOrBefore(member.uuid, row.firstLsn)?.firstLsn !== row.firstLsn) return false;
    watch.found(segmentInfo(row, file));
    return true;
  }

  private async *scrubBase(
    member: MemberRow,
    volume: VolumeRow,
  ): AsyncGenerator<{ bytes: bigint; damaged: number; unsummed: bigint }, void> {
    const { store, baseDamage } = this.parts;
    const { uuid, size } = volume;
    const file = store.baseFile(member.group, member.uuid, uuid);
    for (let offset = 0n; offset < size; offset += BASE_PIECE_BYTES) {
      const { badOffsets, unsummed: without } = await this.readBase(file, size, offset);
      baseDamage.found(file, badOffsets);
      const unsummed = without === 0n ? 0n : await this.sum(volume, file, offset, without);
      const left = size - offset;
      yield {
        bytes: left < BASE_PIECE_BYTES ? left : BASE_PIECE_BYTES,
        damaged: badOffsets.length,
        unsummed,
      };
    }
  }

  /** Of a lost one everything is damaged, once that is recorded. */
  private async readBase(file: string, size: bigint, offset: bigint): Promise<native.BaseScrub> {
    const { native, baseDamage } = this.parts;
    try {
      return await native.scrubBase(file, size, offset, BASE_PIECE_BYTES);
    } catch (thrown) {
      if (toAfterimageError(thrown).code !== 'BASE_MISSING') throw thrown;
      baseDamage.lost(file);
      await baseDamage.idle();
      return native.scrubBase(file, size, offset, BASE_PIECE_BYTES);
    }
  }

  /**
   * Gives the blocks of a piece that have no checksum the one of what they hold, so that what rots from now on is found;
   * `without`: how many there are. None where a roll-forward comes back to them. How many had lost theirs.
   */
  private async sum(
    { uuid, member }: VolumeRow,
    file: string,
    offset: bigint,
    without: bigint,
  ): Promise<bigint> {
    const { catalog, access, native, log } = this.parts;
    const isMoving = (): boolean =>
      (catalog.volumes.volumeWithUuid(uuid)?.baseLsn ?? 0n) < catalog.windows.held(member).oldestLsn;
    if (isMoving()) return 0n;
    let blocks = without;
    try {
      blocks = await access.withoutRoll(member, async () =>
        isMoving() ? 0n : native.sumBase(file, offset, BASE_PIECE_BYTES),
      );
    } catch (thrown) {
      const err = toAfterimageError(thrown);
      log.warn({ err, base: file, offset }, 'blocks of a base could not be given a checksum');
    }
    const what = { code: 'BASE_UNSUMMED', base: file, offset, blocks };
    if (blocks > 0n) log.warn(what, 'blocks of a base had no checksum: what rotted until now is not known');
    return blocks;
  }
}
