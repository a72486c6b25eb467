/**
 * Retention: shortens history from its oldest end, by age and by bytes, and when the disk runs short. Looks about once a
 * second; one member at a time, so many segments at a time, at a bounded rate. What it moves is moved off the event loop.
 */
import { toAfterimageError, type ErrorCode } from '../../proto/errors.js';
import type { Log } from '../../service/log.js';
import type { Hold } from '../base_access.js';
import type { CheckpointRow } from '../catalog/checkpoints.js';
import { toCatalogError } from '../catalog/database.js';
import type { GroupRow, MemberRow } from '../catalog/members.js';
import type { Members } from '../members.js';
import type { Points } from '../points.js';
import type { StoreRoom } from '../store_room.js';
import { BaseRoll, type BaseRollParts } from './base_roll.js';
import { rollLimit } from './limit.js';
import { planRetention, type Candidate, type Plan, type RetentionSettings, type Room } from './policy.js';
import type { RunningTime } from './running_time.js';

export interface RetentionParts extends BaseRollParts {
  members: Members;
  points: Points;
  /** Of a group, by its name. */
  settings: (group: string) => RetentionSettings;
  time: RunningTime;
  room: StoreRoom;
  segmentBytes: bigint;
  /** Between two looks. */
  roundMs: number;
  log: Log;
}

/** Of one member in one round: 1 GiB of the largest. */
const SEGMENTS_MAX = 16;
/** Likewise where fewer may not set all of a damaged block of a base. */
const SEGMENTS_OVER_DAMAGE_MAX = 4096;
/** Segments that would still fit when history begins to be shortened for want of room, and when it has been. */
const ROOM_LOW_SEGMENTS = 2n;
const ROOM_SEGMENTS = 4n;
const PERSIST_MS = 60_000;
/** After an error a member is left alone for so long. */
const RETRY_MS = 10_000;
const NS_PER_MS = 1_000_000n;
/** While a base is moved room is looked for so often. */
const LOOK_NS = 1000n * NS_PER_MS;

export class Retention {
  private readonly roll: BaseRoll;
  private plan: Plan = { last: new Map(), heldBy: new Map(), shortBytes: 0n };
  private readonly faults = new Map<string, { untilNs: bigint; text: string; code: ErrorCode }>();
  /** LSNs of pinned checkpoints in the other members of their group, by member and checkpoint; null: before or beyond them. */
  private readonly pins = new Map<string, Map<string, Hold | null>>();
  private isShort = false;
  private isStopping = false;
  private persistedNs = 0n;
  /** When room was looked for last. */
  private lookedNs = 0n;
  private timer: NodeJS.Timeout | null = null;
  private working: Promise<void> | null = null;

  constructor(private readonly parts: RetentionParts) {
    this.roll = new BaseRoll(parts);
  }

  start(): void {
    const again = (delayMs: number): void => {
      if (this.isStopping) return;
      this.timer = setTimeout(() => {
        this.working = this.round().then((isMore) => {
          this.working = null;
          again(isMore ? 0 : this.parts.roundMs);
        });
      }, delayMs);
    };
    again(this.parts.roundMs);
  }

  /** Ends what is under way at its next step, which loses nothing. */
  async stop(): Promise<void> {
    this.isStopping = true;
    if (this.timer !== null) clearTimeout(this.timer);
    await this.working;
    try {
      this.parts.time.persist();
    } catch (thrown) {
      this.parts.log.warn({ err: toCatalogError(thrown) }, 'the running time could not be written down');
    }
  }

  settings(group: string): RetentionSettings {
    return this.parts.settings(group);
  }

  /** Why history of the member that should go is still there, "" when none is. */
  heldBy(member: string): string {
    return this.faults.get(member)?.text ?? this.plan.heldBy.get(member) ?? '';
  }

  /**
   * One look, and what follows from it; true when there may be more to do at once. What fails is logged, and tried again
   * in a later one.
   */
  private async round(): Promise<boolean> {
    try {
      return await this.look();
    } catch (thrown) {
      this.parts.log.error({ err: toCatalogError(thrown) }, 'retention met an error');
      return false;
    }
  }

  private async look(): Promise<boolean> {
    const { catalog, time } = this.parts;
    // Before the catalog is written: on a full disk that takes what is set aside for it.
    const room = await this.lookForRoom();
    this.keepTime();
    catalog.segments.beginAging(time.nowNs());
    const rows = catalog.members
      .groups()
      .flatMap((group) => catalog.members.members(group.uuid).map((row) => ({ group, row })));
    for (const { group, row } of rows) await this.findPins(group, row);
    const candidates = rows.flatMap(({ group, row }) => this.candidate(group, row));
    this.plan = planRetention(candidates, time.nowNs(), room);
    let isMore = false;
    for (const { group, row } of rows) {
      if (this.isStopping) return false;
      if (await this.shorten(group, row)) isMore = true;
    }
    return isMore;
  }

  /** Whether it did. */
  private async shorten(group: GroupRow, row: MemberRow): Promise<boolean> {
    const { catalog, members, log, time } = this.parts;
    const member = members.get(row.uuid);
    const isWaiting = (this.faults.get(row.uuid)?.untilNs ?? 0n) > time.nowNs();
    if (member === null || isWaiting) return false;
    const before = catalog.windows.held(row.uuid);
    const segment = this.plan.last.get(row.uuid);
    try {
      // The catalog as it is in this very turn: whoever asks for an older point later is told that it is gone.
      if (segment !== undefined && segment.lastLsn <= this.limit(row).lsn) {
        this.roll.raise(row, { lsn: segment.lastLsn, timeNs: segment.lastTimeNs });
      }
      const { oldestLsn, droppedLsn } = catalog.windows.held(row.uuid);
      if (oldestLsn === droppedLsn) {
        this.faults.delete(row.uuid);
        return false;
      }
      const { rollForwardRateMax } = this.parts.settings(group.name);
      const rateMax = async (): Promise<bigint | null> => {
        if (time.nowNs() - this.lookedNs > LOOK_NS) await this.lookForRoom();
        return this.isShort ? null : rollForwardRateMax;
      };
      const isDone = await this.roll.finish(row, member.journal, rateMax, () => this.isStopping);
      this.faults.delete(row.uuid);
      const what = { group: group.name, host: row.host, fromLsn: before.oldestLsn, oldestLsn };
      if (isDone) log.info(what, 'history was shortened');
      return isDone;
    } catch (thrown) {
      const error = toCatalogError(thrown);
      const untilNs = time.nowNs() + BigInt(RETRY_MS) * NS_PER_MS;
      this.faults.set(row.uuid, { untilNs, text: `${error.code}: ${error.message}`, code: error.code });
      log.error({ err: error, group: group.name, host: row.host }, 'history could not be shortened');
      return false;
    }
  }

  private candidate(group: GroupRow, row: MemberRow): Candidate[] {
    const { catalog, members } = this.parts;
    if (members.get(row.uuid) === null) return [];
    const isOverDamage = this.faults.get(row.uuid)?.code === 'BASE_CORRUPT';
    const count = isOverDamage ? SEGMENTS_OVER_DAMAGE_MAX : SEGMENTS_MAX;
    const rows = catalog.segments.oldest(row.uuid, count + 1);
    // The last one of a member stays: a journal goes on from it.
    const segments = rows.slice(0, -1);
    if (segments.length === 0) return [];
    const { bytes } = catalog.segments.totals(row.uuid);
    const settings = this.parts.settings(group.name);
    return [{ member: row.uuid, group: group.uuid, settings, bytes, segments, limit: this.limit(row) }];
  }

  private limit(row: MemberRow): Hold {
    const known = this.pins.get(row.uuid);
    const pins = this.parts.catalog.checkpoints.pinned(row.group).flatMap((checkpoint) => {
      if (checkpoint.member === row.uuid) return [];
      const pin = known?.get(pinKey(checkpoint));
      // Pinned since the round began: the next one knows how far it reaches.
      if (pin === undefined) return [{ lsn: 0n, who: pinName(checkpoint) }];
      return pin === null ? [] : [pin];
    });
    return rollLimit(this.parts, row, pins);
  }

  /** Checkpoints belong to one member of their group; the others join them by their time. */
  private async findPins(group: GroupRow, row: MemberRow): Promise<void> {
    const { catalog, points } = this.parts;
    const known = this.pins.get(row.uuid);
    const present = new Map<string, Hold | null>();
    for (const checkpoint of catalog.checkpoints.pinned(group.uuid)) {
      if (checkpoint.member === row.uuid) continue;
      const key = pinKey(checkpoint);
      try {
        const own = known?.get(key) ?? {
          lsn: await points.lsnAt(row, checkpoint.timeNs),
          who: pinName(checkpoint),
        };
        present.set(key, own);
      } catch (thrown) {
        const { code } = toAfterimageError(thrown);
        // There is nothing of it here to be kept.
        if (!['POINT_UNKNOWN', 'POINT_EXPIRED', 'POINT_AMBIGUOUS'].includes(code)) throw thrown;
        present.set(key, null);
      }
    }
    this.pins.set(row.uuid, present);
  }

  private async lookForRoom(): Promise<Room> {
    const { room, segmentBytes } = this.parts;
    const freeBytes = await room.freeBytes();
    this.lookedNs = this.parts.time.nowNs();
    const isShort = freeBytes < room.headroomBytes + ROOM_LOW_SEGMENTS * segmentBytes;
    this.tellRoom(isShort);
    try {
      if (!isShort) await room.setAside();
      else if (freeBytes < room.asideBytes) await room.use();
    } catch (thrown) {
      // It is for worse times; the headroom is there without it.
      this.parts.log.warn({ err: toAfterimageError(thrown) }, 'no room could be set aside');
    }
    const wanted = room.headroomBytes + ROOM_SEGMENTS * segmentBytes;
    return { shortBytes: isShort ? wanted - freeBytes : 0n, growBytesMax: freeBytes / 2n };
  }

  private tellRoom(isShort: boolean): void {
    const { log } = this.parts;
    if (isShort && !this.isShort) log.warn('the disk of the store runs short: history is shortened for it');
    if (!isShort && this.isShort) log.info('the disk of the store has room again');
    this.isShort = isShort;
  }

  private keepTime(): void {
    const nowNs = this.parts.time.nowNs();
    if (nowNs - this.persistedNs < BigInt(PERSIST_MS) * NS_PER_MS) return;
    this.parts.time.persist();
    this.persistedNs = nowNs;
  }
}

function pinKey({ name, member, lsn }: CheckpointRow): string {
  return `${name} ${member} ${lsn}`;
}
function pinName({ name }: CheckpointRow): string {
  return `the pinned checkpoint ${name}`;
}
