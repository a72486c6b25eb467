/**
 * Which of the oldest segments may go: those older than their group's window; of those older than its floor, as many as
 * are beyond its bytes; and, while the disk runs short, the oldest of all groups. Pure.
 */
import type { Hold } from '../base_access.js';
import type { SegmentAge } from '../catalog/segments.js';

export interface RetentionSettings {
  /** Records older than this go. */
  windowNs: bigint;
  /** Records younger than this never go: ingest is refused instead. `floor ≤ window` */
  floorNs: bigint;
  /** Of the group's journals; null: no bound. */
  bytesMax: bigint | null;
  /** Bytes per second at which bases are moved, unless the disk runs short. */
  rollForwardRateMax: bigint;
}

/** A member, and what could go of it. */
export interface Candidate {
  member: string;
  group: string;
  settings: RetentionSettings;
  /** Of the whole journal. */
  bytes: bigint;
  /** The oldest ones, ascending; not the member's last. */
  segments: readonly SegmentAge[];
  /** What its history cannot be shortened beyond. */
  limit: Hold;
}

export interface Plan {
  /** By member: the last segment to go. */
  last: Map<string, SegmentAge>;
  /** By member: what keeps a segment that should go. */
  heldBy: Map<string, string>;
  /** Bytes that the disk is short of when all this has gone. */
  shortBytes: bigint;
}

/** The file system of the store. */
export interface Room {
  /** What it is short of, 0n: of nothing. */
  shortBytes: bigint;
  /**
   * What bases may gain before anything is freed: a base that was sparse takes as much as its segments held. The oldest
   * segment may go all the same.
   */
  growBytesMax: bigint;
}

/** `nowNs`: the running time. */
export function planRetention(candidates: readonly Candidate[], nowNs: bigint, room: Room): Plan {
  const last = new Map<string, SegmentAge>();
  const heldBy = new Map<string, string>();
  const bytes = new Map<string, bigint>();
  for (const { group, bytes: own } of candidates) bytes.set(group, (bytes.get(group) ?? 0n) + own);
  let { shortBytes } = room;
  let growBytes = 0n;
  const open = candidates.map((candidate) => ({ candidate, next: 0 }));
  for (let queue = oldest(open); queue !== null; queue = oldest(open)) {
    const { candidate, next } = queue;
    const { member, group, settings, limit } = candidate;
    const segment = candidate.segments[next];
    if (segment === undefined || segment.agedFromNs === null) break;
    const ageNs = nowNs - segment.agedFromNs;
    const groupBytes = bytes.get(group) ?? 0n;
    const isBeyond = settings.bytesMax !== null && groupBytes > settings.bytesMax;
    const isWanted =
      ageNs >= settings.windowNs || (ageNs >= settings.floorNs && (isBeyond || shortBytes > 0n));
    const isHeld = segment.lastLsn > limit.lsn;
    if (isWanted && isHeld) heldBy.set(member, limit.who);
    else if (!isWanted && (isBeyond || shortBytes > 0n)) heldBy.set(member, 'the floor');
    if (!isWanted || isHeld) {
      open.splice(open.indexOf(queue), 1);
      continue;
    }
    growBytes += segment.rawBytes;
    if (last.size > 0 && growBytes > room.growBytesMax) break;
    last.set(member, segment);
    queue.next += 1;
    bytes.set(group, groupBytes - segment.bytes);
    shortBytes = shortBytes > segment.bytes ? shortBytes - segment.bytes : 0n;
  }
  return { last, heldBy, shortBytes };
}

interface Queue {
  candidate: Candidate;
  next: number;
}

/** The member whose next segment is the oldest, or null. */
function oldest(open: readonly Queue[]): Queue | null {
  let found: Queue | null = null;
  let foundNs: bigint | null = null;
  for (const queue of open) {
    const agedFromNs = queue.candidate.segments[queue.next]?.agedFromNs ?? null;
    if (agedFromNs === null || (foundNs !== null && agedFromNs >= foundNs)) continue;
    found = queue;
    foundNs = agedFromNs;
  }
  return found;
}
