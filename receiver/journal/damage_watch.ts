/**
 * Damage that is met while the receiver runs (R5): when a point, a run or a look-up cannot read a segment, that segment
 * is read in full, and what is missing is recorded with the instants that it touches; where the newest one is among them
 * the present generation ends, so that the agent compares. In the background: whoever met it gets its error at once.
 *
 * Of points that are open it is told what they find damaged in their base. Not its job: what they find damaged in a
 * segment; such a read answers EIO.
 */
import type * as native from '../../native/index.js';
import type { BlockDevice, PointOptions, RollForward, SegmentInfo } from '../../native/index.js';
import { toAfterimageError } from '../../proto/errors.js';
import { parseUuid } from '../../proto/uuid.js';
import type { Log } from '../../service/log.js';
import type { BaseAccess } from '../base_access.js';
import type { Catalog } from '../catalog/catalog.js';
import type { Member } from '../members.js';
import { isThere, runFile, type Store } from '../store.js';
import { recordDamage } from './damage_record.js';
import { isDamage, readSegment } from './inspection.js';
import type { MemberJournal } from './journal.js';
import { touchedEnd, type TouchedEnd } from './lost_records.js';
import { segmentInfo } from './segment_row.js';

type Reading = Pick<typeof native, 'openPoint' | 'openRollForward' | 'timeAtLsn' | 'lsnAtTime' | 'buildRun'>;

export interface DamageWatchParts {
  catalog: Catalog;
  store: Store;
  access: BaseAccess;
  native: Reading & Pick<typeof native, 'scanSegment' | 'isRunOf' | 'openLostExtents' | 'badBaseOffsets'>;
  /** Told of damaged blocks of a base, each time that more of them are known. */
  onBaseDamage: (file: string, offsets: readonly bigint[]) => void;
  /** Told of a base that is not there. */
  onBaseLost: (file: string) => void;
  /** An opened member, or null. */
  member: (uuid: string) => Member | null;
  log: Log;
}

export class DamageWatch {
  /** What reads segments, watched. */
  readonly native: Reading;
  /** Segments that are being looked at, by path: damage is met by everybody at once. */
  private readonly looking = new Map<string, Promise<void>>();
  /** Open points: their base, and how many damaged blocks of it they have told. */
  private readonly open = new Map<BlockDevice, { base: string; told: number }>();

  constructor(private readonly parts: DamageWatchParts) {
    const { openPoint, openRollForward, timeAtLsn, lsnAtTime, buildRun } = parts.native;
    this.native = {
      openRollForward: (options) => this.watchedRoll(openRollForward(options), options),
      openPoint: async (options) =>
        this.followed(
          await this.watched(this.overBase(openPoint(options), options), () => this.lookAtTiles(options)),
          options.basePath,
        ),
      timeAtLsn: (segment, lsn) => this.watched(timeAtLsn(segment, lsn), () => this.look(segment)),
      lsnAtTime: (segment, timeNs) => this.watched(lsnAtTime(segment, timeNs), () => this.look(segment)),
      buildRun: (segment, run) => this.watched(buildRun(segment, run), () => this.look(segment)),
    };
  }

  /** What open points have found in their bases since; to be called now and then. */
  askOpenPoints(): void {
    for (const point of this.open.keys()) this.ask(point);
  }

  /** A scrub has found the segment damaged. */
  found(segment: SegmentInfo): void {
    this.look(segment);
  }

  /** Waits for what is being looked at. */
  async idle(): Promise<void> {
    while (this.looking.size > 0) await Promise.all(this.looking.values());
  }

  private async watched<T>(read: Promise<T>, look: () => void): Promise<T> {
    try {
      return await read;
    } catch (thrown) {
      if (isDamage(thrown)) look();
      throw thrown;
    }
  }

  private async overBase<T>(opening: Promise<T>, { basePath }: PointOptions): Promise<T> {
    try {
      return await opening;
    } catch (thrown) {
      if (toAfterimageError(thrown).code === 'BASE_MISSING') this.parts.onBaseLost(basePath);
      throw thrown;
    }
  }

  /** It reads what the newest records of each sector left, anywhere in its segments. */
  private async watchedRoll(opening: Promise<RollForward>, options: PointOptions): Promise<RollForward> {
    const { tiles, basePath } = options;
    const look = (): void => tiles.forEach(({ segment }) => this.look(segment));
    const roll = await this.watched(this.overBase(opening, options), look);
    return {
      advance: async (bytesMax) => {
        try {
          return await this.watched(roll.advance(bytesMax), look);
        } catch (thrown) {
          if (toAfterimageError(thrown).code === 'BASE_CORRUPT') {
            this.parts.onBaseDamage(basePath, roll.badOffsets());
          }
          throw thrown;
        }
      },
      sync: () => roll.sync(),
      badOffsets: () => roll.badOffsets(),
      close: () => roll.close(),
    };
  }

  private followed(point: BlockDevice, base: string): BlockDevice {
    this.open.set(point, { base, told: 0 });
    const close = point.close.bind(point);
    point.close = async () => {
      this.ask(point);
      this.open.delete(point);
      await close();
    };
    return point;
  }

  private ask(point: BlockDevice): void {
    const followed = this.open.get(point);
    if (followed === undefined) return;
    const offsets = this.parts.native.badBaseOffsets(point);
    if (offsets.length === followed.told) return;
    followed.told = offsets.length;
    this.parts.onBaseDamage(followed.base, offsets);
  }

  /** A point reads the last segment, and those whose run does not help. */
  private lookAtTiles({ tiles }: PointOptions): void {
    tiles.forEach(({ segment, run }, index) => {
      if (run === null || index === tiles.length - 1) this.look(segment);
      else
        this.start(run, async () => {
          const isWhole = await this.parts.native.isRunOf(segment, run);
          const owner = this.parts.store.ownerOf(segment.path);
          if (owner !== null && !isWhole)
            this.parts.catalog.segments.setRun(owner.member, segment.firstLsn, false);
          if (!isWhole || !(await isThere(segment.path))) this.look(segment);
        });
    });
  }

  private look(segment: SegmentInfo): void {
    this.start(segment.path, () => this.check(segment));
  }

  private start(path: string, work: () => Promise<void>): void {
    if (this.looking.has(path)) return;
    const done = work()
      .catch((thrown: unknown) => {
        this.parts.log.error({ err: toAfterimageError(thrown), path }, 'damage could not be looked at');
      })
      .finally(() => this.looking.delete(path));
    this.looking.set(path, done);
  }

  private async check({ path, firstLsn }: SegmentInfo): Promise<void> {
    const { catalog, store, native, log } = this.parts;
    const owner = store.ownerOf(path);
    const member = owner === null ? null : this.parts.member(owner.member);
    if (owner === null || member === null) return;
    const { journal } = member;
    // What was durable before it is read: an append may be under way behind that.
    journal.persist();
    const row = catalog.segments.atOrBefore(owner.member, firstLsn);
    if (row?.firstLsn !== firstLsn) return;
    const identity = { group: parseUuid(owner.group), member: parseUuid(owner.member) };
    const { info, reason } = await readSegment(path, identity, native.scanSegment);
    const lastLsn = info?.lastLsn ?? firstLsn - 1n;
    if (lastLsn >= row.lastLsn) return;
    log.error({ segment: path, run: runFile(path), reason }, 'a segment was damaged since it was written');
    const touched = await this.touched(owner.member, journal, segmentInfo(row, path), info);
    // A session in the generation that ends would go on appending to it.
    while (touched === null && member.live !== null) await member.live.displace(null);
    journal.persist();
    // Retention may have dropped it since: its instants are gone, and its records in the bases.
    if (catalog.segments.atOrBefore(owner.member, firstLsn)?.firstLsn !== firstLsn) return;
    const end = catalog.segments.last(owner.member);
    const hole = { firstLsn: lastLsn + 1n, lastLsn: row.lastLsn, reason };
    const present = { lastLsn: journal.durableLsn, lastTimeNs: end?.lastTimeNs ?? 0n };
    journal.cut(row, info, () => {
      recordDamage({ catalog, log }, owner.member, [hole], present, touched);
    });
  }

  /** As touchedEnd; where it cannot be known the newest instant is taken to be touched. Before the segment is cut. */
  private async touched(
    uuid: string,
    journal: MemberJournal,
    whole: SegmentInfo,
    intact: SegmentInfo | null,
  ): Promise<TouchedEnd | null> {
    // The segments behind it are to stay where they are.
    const release = this.parts.access.hold(uuid, whole.lastLsn, 'a look at a damaged segment');
    try {
      return await touchedEnd(this.parts.native.openLostExtents, journal, whole, intact);
    } catch (thrown) {
      const what = { err: toAfterimageError(thrown), segment: whole.path };
      this.parts.log.warn(
        what,
        'it is not known what later records have set again: all instants behind count',
      );
      return null;
    } finally {
      release();
    }
  }
}
