/** Base images: that they are there, whole, and what was written; what a repair makes of those that are not. */
import { stat } from 'node:fs/promises';
import type * as native from '../../native/index.js';
import type { SegmentInfo } from '../../native/index.js';
import type { Log } from '../../service/log.js';
import { named } from '../../service/system_errors.js';
import { BaseAccess } from '../base_access.js';
import { BaseDamage } from '../base_damage.js';
import type { Catalog } from '../catalog/catalog.js';
import type { MemberRow } from '../catalog/members.js';
import type { VolumeRow } from '../catalog/volumes.js';
import { pointTiles } from '../journal/point_tiles.js';
import { segmentInfo } from '../journal/segment_row.js';
import { Points } from '../points.js';
import type { Store } from '../store.js';
import { finding, type Finding, type FindingCode, type FindingPlace } from './finding.js';

interface BaseDamageSources {
  catalog: Catalog;
  store: Store;
  native: Pick<typeof native, 'openPoint' | 'lsnAtTime' | 'timeAtLsn' | 'loseBase' | 'scrubBase'>;
  log: Log;
}
export interface BaseCheckParts extends BaseDamageSources {
  begin: (file: string) => void;
  done: (bytes: bigint) => Promise<void>;
}
export interface CheckedBase {
  volume: VolumeRow;
  file: string;
  findings: Finding[];
  /** Of damaged blocks. */
  badOffsets: bigint[];
  /** How long the file is; null: there is none. */
  bytes: bigint | null;
}

const PIECE_BYTES = 64n * 1024n * 1024n;

/** `catalog`: a copy. Errors: IO_ERROR, and what keeps a point from being opened. */
export async function checkBase(
  parts: BaseCheckParts,
  member: MemberRow,
  volume: VolumeRow,
  place: FindingPlace,
  segments: readonly SegmentInfo[],
): Promise<CheckedBase> {
  const file = parts.store.baseFile(member.group, member.uuid, volume.uuid);
  const checked: CheckedBase = { volume, file, findings: [], badOffsets: [], bytes: await sizeOf(file) };
  const { findings, bytes } = checked;
  const say = (code: FindingCode, text: string): void => void findings.push(finding(code, place, file, text));
  if (volume.baseState === 'BASE_EMPTY') return checked;
  const within = segments.find(
    ({ firstLsn, lastLsn }) => firstLsn <= volume.baseLsn && volume.baseLsn < lastLsn,
  );
  if (within !== undefined) {
    say(
      'BASE_LSN',
      `the base of ${volume.name} ends at LSN ${volume.baseLsn}, in the middle of ${within.path}`,
    );
  }
  const size = volume.syncOffset;
  const sizes = `${bytes ?? 0n} bytes, where ${volume.name} has ${volume.size}`;
  if (bytes === null) say('BASE_LOST', 'it is not there');
  else if (bytes < size) say('BASE_SHORT', sizes);
  else if (bytes > volume.size) say('BASE_LONG', sizes);
  // One that is being written is not yet what it will be.
  if (bytes !== null && volume.baseState === 'BASE_COMPLETE') {
    const sums = await readBase(parts, checked);
    if (checked.badOffsets.length > 0 && bytes >= size) {
      const [first] = checked.badOffsets;
      const isKnown = await baseDamage(parts, member).isRecorded(file, checked.badOffsets);
      const count = checked.badOffsets.length;
      say(
        isKnown ? 'BASE_DAMAGE_KNOWN' : 'BASE_BLOCK',
        `damaged blocks: ${count}, the first at byte ${first ?? 0n}`,
      );
    }
    const { oldestLsn } = parts.catalog.windows.held(member.uuid);
    // A roll-forward that was ended by anything begins anew, with all that it may have left so.
    if (sums === 'in part' && volume.baseLsn < oldestLsn) {
      say('BASE_ROLL_PENDING', `blocks of it have no checksum until it has reached LSN ${oldestLsn}`);
    } else if (sums !== 'whole') {
      say('BASE_UNSUMMED', 'blocks of it have no checksum');
    }
  }
  return checked;
}

/** Which blocks have a checksum. */
type Sums = 'whole' | 'in part' | 'none';

async function readBase({ native, begin, done }: BaseCheckParts, checked: CheckedBase): Promise<Sums> {
  const { file, volume } = checked;
  let sums: Sums = 'whole';
  for (let offset = 0n; offset < volume.size; offset += PIECE_BYTES) {
    begin(file);
    const { badOffsets, unsummed, hasSums, bytes } = await native.scrubBase(
      file,
      volume.size,
      offset,
      PIECE_BYTES,
    );
    checked.badOffsets.push(...badOffsets);
    if (!hasSums) sums = 'none';
    else if (unsummed > 0n) sums = 'in part';
    await done(bytes);
  }
  return sums;
}

export interface BaseRepairParts extends BaseDamageSources {
  native: BaseDamageSources['native'] & Pick<typeof native, 'completeBase'>;
}

/**
 * After the member's journal was repaired: marks and records what is lost of a base, and gives checksums to what has none.
 * Which findings it has dealt with. Errors: JOURNAL_FULL, JOURNAL_IO, IO_ERROR.
 */
export async function repairBase(
  parts: BaseRepairParts,
  member: MemberRow,
  { volume, file, findings, bytes, badOffsets }: CheckedBase,
): Promise<readonly FindingCode[]> {
  const { native } = parts;
  const has = (code: FindingCode): boolean => findings.some((one) => one.code === code);
  const damage = baseDamage(parts, member);
  const isLost = volume.baseState === 'BASE_COMPLETE' && (has('BASE_LOST') || has('BASE_SHORT'));
  if (isLost) await native.loseBase(file, bytes ?? 0n, volume.syncOffset);
  if (has('BASE_UNSUMMED')) await native.completeBase(file);
  if (isLost) await damage.recordAll(file);
  else if (badOffsets.length > 0 && !has('BASE_DAMAGE_KNOWN')) await damage.record(file, badOffsets);
  return volume.baseState === 'BASE_COMPLETE'
    ? ['BASE_LOST', 'BASE_SHORT', 'BASE_BLOCK', 'BASE_UNSUMMED']
    : ['BASE_UNSUMMED'];
}

function baseDamage(parts: BaseDamageSources, member: MemberRow): BaseDamage {
  const journal = offlineJournal(parts, member);
  const access = new BaseAccess();
  return new BaseDamage({ ...parts, access, points: offlinePoints(parts, access), journal: () => journal });
}

/** Points of a store whose receiver does not run: the catalog has everything. */
function offlinePoints(parts: BaseDamageSources, access: BaseAccess): Points {
  const { catalog } = parts;
  return new Points({
    ...parts,
    access,
    nowNs: () => 0n,
    journals: {
      refresh: () => undefined,
      tiles: (uuid, baseLsn, lsn) => {
        const member = catalog.members.member(uuid);
        return member === null ? [] : pointTiles(parts, member, catalog.segments.between(uuid, baseLsn, lsn));
      },
    },
  });
}

function offlineJournal({ catalog, store, native }: BaseDamageSources, { group, uuid }: MemberRow) {
  return {
    durableLsn: catalog.segments.last(uuid)?.lastLsn ?? 0n,
    persist: () => undefined,
    stop: () => Promise.resolve(),
    timeAt: async (lsn: bigint) => {
      const row = catalog.segments.atOrBefore(uuid, lsn);
      if (row === null || row.lastLsn < lsn) return null;
      return native.timeAtLsn(segmentInfo(row, store.segmentFile(group, uuid, row.firstLsn)), lsn);
    },
  };
}

/** Null: there is none. */
async function sizeOf(file: string): Promise<bigint | null> {
  try {
    return (await stat(file, { bigint: true })).size;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null;
    return named(Promise.reject(thrown as Error), file);
  }
}
