/**
 * Recovery points: from what a user writes to what the addon opens. A point is a position in every member of the
 * group; with several members they are brought together by time.
 */
import type { BlockDevice, PointOptions, PointTile } from '../native/index.js';
import type { Grade } from '../proto/control.js';
import { AfterimageError } from '../proto/errors.js';
import { formatTime } from '../proto/time.js';
import type { BaseAccess, Release } from './base_access.js';
import type { Catalog } from './catalog/catalog.js';
import type { GroupRow, MemberRow } from './catalog/members.js';
import type { VolumeRow } from './catalog/volumes.js';
import { MemberPoints, type MemberPointsParts, type MemberPosition } from './member_points.js';
import { parsePoint, type PointSyntax } from './point_syntax.js';
import { readHistory, spansOf } from './timeline.js';

export interface ResolvedPoint {
  group: GroupRow;
  /** The one that the point was named by comes first. */
  positions: [MemberPosition, ...MemberPosition[]];
  /** Means the same for ever, as `latest` and `-90s` do not. */
  text: string;
  /** The worst of the positions. */
  grade: Grade;
}
/** One volume at a point. */
export interface VolumePoint {
  volume: VolumeRow;
  /** Bytes. */
  size: bigint;
  lsn: bigint;
  /** The base image under it. */
  basePath: string;
  /** Errors: those of openPoint. */
  open(): Promise<BlockDevice>;
}
/** Volumes that can be opened, and what is open of them read, until the release is called. */
export interface HeldPoint {
  volumes: VolumePoint[];
  release: Release;
}
/** A device to be closed, and then the point that it shows to be let go of. */
export interface HeldDevice {
  device: BlockDevice;
  release: Release;
}

/** The journal's side of it. */
export interface Journals {
  /** Brings the catalog up to date for a member. In a full store it stays behind, and readers see what it had. */
  refresh(member: string): void;
  /** What lies over a base that includes everything up to `baseLsn`, up to the segment that holds `lsn`. */
  tiles(member: string, baseLsn: bigint, lsn: bigint): PointTile[];
}
export interface PointsParts extends MemberPointsParts {
  journals: Journals;
  access: BaseAccess;
  native: MemberPointsParts['native'] & { openPoint(options: PointOptions): Promise<BlockDevice> };
  nowNs: () => bigint;
}

/** What a point names: a position in one member, and the instant at which the others join it. */
interface NamedPoint {
  position: MemberPosition;
  timeNs: bigint;
}

const GRADES: readonly Grade[] = ['ordered', 'syncing', 'gap', 'damaged'];

export class Points {
  private readonly members: MemberPoints;

  constructor(private readonly parts: PointsParts) {
    this.members = new MemberPoints(parts);
  }

  /**
   * What `text` means in the group `name`. Errors: POINT_INVALID, GROUP_UNKNOWN, CHECKPOINT_UNKNOWN, POINT_UNKNOWN,
   * POINT_EXPIRED, POINT_AMBIGUOUS, and POINT_GRADE when it is not `ordered`, unless forced.
   */
  async resolve(name: string, text: string, force: boolean): Promise<ResolvedPoint> {
    const syntax = parsePoint(text);
    const group = groupNamed(this.parts.catalog, name);
    const members = this.parts.catalog.members.members(group.uuid);
    for (const member of members) this.parts.journals.refresh(member.uuid);
    const uuids = members.map(({ uuid }) => uuid);
    const { positions, timeNs } = await this.parts.access.whileOpening(uuids, () =>
      this.positions(group, members, syntax),
    );
    const worst = positions.reduce((left, right) =>
      GRADES.indexOf(right.grade) > GRADES.indexOf(left.grade) ? right : left,
    );
    if (worst.grade !== 'ordered' && !force) {
      const reason = worst.reason === '' ? '' : ` (${worst.reason})`;
      throw new AfterimageError(
        'POINT_GRADE',
        `${name} at ${text}: ${worst.member.host} is graded ${worst.grade} there${reason}, ` +
          `LSN ${worst.lsn}, ${formatTime(worst.timeNs)}`,
      );
    }
    return {
      group,
      positions,
      text: lastingText(positions[0], members.length, syntax, timeNs),
      grade: worst.grade,
    };
  }

  private async positions(
    group: GroupRow,
    members: MemberRow[],
    syntax: PointSyntax,
  ): Promise<{ positions: ResolvedPoint['positions']; timeNs: bigint }> {
    const { position: first, timeNs } = await this.named(group, members, syntax);
    const positions: ResolvedPoint['positions'] = [first];
    // One that had no volumes yet takes no part: else whoever joins a group would take all its points away.
    const others = this.begunBy(members, timeNs).filter(({ uuid }) => uuid !== first.member.uuid);
    for (const member of others) positions.push(await this.members.atTime(member, timeNs));
    return { positions, timeNs };
  }

  /** Those of which there is something to open at the instant `timeNs`; null: at any. */
  private begunBy(members: readonly MemberRow[], timeNs: bigint | null): MemberRow[] {
    return members.filter((member) => {
      const beganNs = this.members.beganNs(member);
      return beganNs !== null && (timeNs === null || beganNs <= timeNs);
    });
  }

  /** The LSN at which a member joins the instant `timeNs`. Errors: as MemberPoints.atTime. */
  async lsnAt(member: MemberRow, timeNs: bigint): Promise<bigint> {
    const found = await this.parts.access.whileOpening([member.uuid], () =>
      this.members.atTime(member, timeNs),
    );
    return found.lsn;
  }

  /**
   * The volumes of the group at the point, or those named, held for `who` ("export 78005a11"). Errors: VOLUME_UNKNOWN,
   * BASE_MISSING, POINT_EXPIRED when the window has moved on meanwhile, and POINT_UNKNOWN when the point is older than a
   * volume's base.
   */
  volumes({ group, positions }: ResolvedPoint, names: readonly string[], who: string): HeldPoint {
    const found = positions.flatMap((position) => this.volumesOf(position));
    for (const name of names) {
      if (!found.some(({ volume }) => volume.name === name)) {
        const known = found.map(({ volume }) => volume.name).join(', ');
        throw new AfterimageError(
          'VOLUME_UNKNOWN',
          `${group.name} has no volume ${name} at that point; it has ${known}`,
        );
      }
    }
    const wanted = names.length === 0 ? found : found.filter(({ volume }) => names.includes(volume.name));
    const volumes = wanted.map(({ volume, size, position: { member, lsn } }) => {
      const options = this.options(volume, size, member, lsn);
      return {
        ...{ volume, size, lsn: options.lsn, basePath: options.basePath },
        open: () => this.open(volume, size, member, lsn),
      };
    });
    // In the same turn as options() has seen that it is there.
    const releases = positions.map(({ member, lsn }) => this.parts.access.hold(member.uuid, lsn, who));
    return { volumes, release: () => releases.forEach((release) => release()) };
  }

  /** One volume after the records up to `lsn`, held for `who`. Errors: as options() and openPoint. */
  async hold(
    volume: VolumeRow,
    size: bigint,
    member: MemberRow,
    lsn: bigint,
    who: string,
  ): Promise<HeldDevice> {
    const release = this.parts.access.hold(member.uuid, lsn, who);
    try {
      return { device: await this.open(volume, size, member, lsn), release };
    } catch (thrown) {
      release();
      throw thrown;
    }
  }

  private open(volume: VolumeRow, size: bigint, member: MemberRow, lsn: bigint): Promise<BlockDevice> {
    const { access, native, catalog } = this.parts;
    return access.whileOpening([member.uuid], () => {
      // As it is now: the base may have moved, up to the point, since the point was asked for.
      const row = catalog.volumes.volumeWithUuid(volume.uuid) ?? volume;
      return native.openPoint(this.options(row, size, member, lsn));
    });
  }

  /** Errors: BASE_MISSING, POINT_EXPIRED before the window, POINT_UNKNOWN before the base. */
  private options(volume: VolumeRow, size: bigint, member: MemberRow, lsn: bigint): PointOptions {
    const { oldestLsn } = this.parts.catalog.windows.held(member.uuid);
    if (lsn < oldestLsn) {
      throw new AfterimageError(
        'POINT_EXPIRED',
        `LSN ${lsn} of ${member.host} is older than what is held: the oldest point is LSN ${oldestLsn}`,
      );
    }
    if (volume.baseState !== 'BASE_COMPLETE') {
      throw new AfterimageError('BASE_MISSING', `the initial sync of ${volume.name} is not complete`);
    }
    if (lsn < volume.baseLsn) {
      throw new AfterimageError(
        'POINT_UNKNOWN',
        `LSN ${lsn} is older than the base of ${volume.name}, which begins at ${volume.baseLsn}`,
      );
    }
    const { store, journals } = this.parts;
    const tiles = journals.tiles(member.uuid, volume.baseLsn, lsn);
    const last = tiles.at(-1)?.segment.lastLsn ?? lsn;
    return {
      basePath: store.baseFile(member.group, member.uuid, volume.uuid),
      size,
      blockSize: volume.blockSize,
      volume: volume.number,
      // Numbers between two generations were never used: the state is that of the last one that was.
      lsn: lsn < last ? lsn : last,
      tiles,
    };
  }

  private async named(group: GroupRow, members: MemberRow[], syntax: PointSyntax): Promise<NamedPoint> {
    switch (syntax.kind) {
      case 'latest':
        return this.latest(group, members);
      case 'lsn':
        return atRecord(
          await this.members.atLsn(this.memberNamed(group, members, syntax.member), syntax.lsn),
        );
      case 'time':
        return this.atTime(this.anyBy(group, members, syntax.timeNs), syntax.timeNs);
      case 'ago': {
        const timeNs = this.parts.nowNs() - syntax.ns;
        return this.atTime(this.anyBy(group, members, timeNs), timeNs);
      }
      case 'checkpoint':
        return atRecord(await this.checkpoint(group, members, syntax.name));
    }
  }

  private async atTime(member: MemberRow, timeNs: bigint): Promise<NamedPoint> {
    return { position: await this.members.atTime(member, timeNs), timeNs };
  }

  /** One that can say what was at `timeNs`, or else whichever is the first to say why that is not known. */
  private anyBy(group: GroupRow, members: MemberRow[], timeNs: bigint): MemberRow {
    return this.begunBy(members, timeNs)[0] ?? anyOf(group, members);
  }

  /** With several members: the newest instant up to which all of them are known, whoever wrote last. */
  private async latest(group: GroupRow, members: MemberRow[]): Promise<NamedPoint> {
    const begun = this.begunBy(members, null);
    const position = await this.members.latest(begun[0] ?? anyOf(group, members));
    if (members.length === 1) return atRecord(position);
    let named = { member: position.member, timeNs: this.orderedUntilNs(position) };
    for (const member of begun.slice(1)) {
      const timeNs = this.orderedUntilNs(await this.members.latest(member));
      if (timeNs < named.timeNs) named = { member, timeNs };
    }
    return this.atTime(named.member, named.timeNs);
  }

  /** The end of the ordered span that `position` is the last LSN of. */
  private orderedUntilNs({ member, timeNs }: MemberPosition): bigint {
    const spans = spansOf(readHistory(this.parts.catalog, member.uuid));
    const endNs = spans.findLast(({ grade }) => grade === 'ordered')?.endNs ?? 0n;
    return endNs > timeNs ? endNs : timeNs;
  }

  private checkpoint(group: GroupRow, members: MemberRow[], name: string): Promise<MemberPosition> {
    const checkpoint = this.parts.catalog.checkpoints.checkpoint(group.uuid, name);
    const member = members.find(({ uuid }) => uuid === checkpoint?.member);
    if (checkpoint === null || member === undefined) {
      throw new AfterimageError('CHECKPOINT_UNKNOWN', `${group.name} has no checkpoint ${name}`);
    }
    return this.members.atLsn(member, checkpoint.lsn);
  }

  private memberNamed(group: GroupRow, members: readonly MemberRow[], named: string | null): MemberRow {
    if (named === null) {
      const begun = this.begunBy(members, null);
      if (begun.length > 1) {
        const hosts = begun.map(({ host }) => host).join(', ');
        throw new AfterimageError(
          'POINT_INVALID',
          `${group.name} has several members: write lsn:MEMBER:N with one of ${hosts}`,
        );
      }
      return begun[0] ?? anyOf(group, members);
    }
    const found = members.filter(({ uuid, host }) => uuid === named || host === named);
    const [member] = found;
    if (member === undefined || found.length > 1) {
      throw new AfterimageError('POINT_UNKNOWN', `${group.name} has ${found.length} members called ${named}`);
    }
    return member;
  }

  private volumesOf(
    position: MemberPosition,
  ): { volume: VolumeRow; size: bigint; position: MemberPosition }[] {
    const { catalog } = this.parts;
    const { uuid } = position.member;
    const volumes = new Map(catalog.volumes.volumes(uuid).map((volume) => [volume.number, volume]));
    return catalog.generations.volumes(uuid, position.generation).flatMap(({ number, size }) => {
      const volume = volumes.get(number);
      return volume === undefined ? [] : [{ volume, size, position }];
    });
  }
}

/** How the point is written for good. With several members, those that joined by time join by the same time again. */
function lastingText(
  { lsn, member }: MemberPosition,
  memberCount: number,
  { kind }: PointSyntax,
  timeNs: bigint,
): string {
  if (memberCount === 1) return `lsn:${lsn}`;
  return kind === 'lsn' || kind === 'checkpoint' ? `lsn:${member.uuid}:${lsn}` : formatTime(timeNs);
}

function atRecord(position: MemberPosition): NamedPoint {
  return { position, timeNs: position.timeNs };
}

/** Errors: GROUP_UNKNOWN. */
export function groupNamed(catalog: Catalog, name: string): GroupRow {
  const group = catalog.members.groupNamed(name);
  if (group === null) throw new AfterimageError('GROUP_UNKNOWN', `there is no group ${name}`);
  return group;
}

function anyOf(group: GroupRow, members: readonly MemberRow[]): MemberRow {
  const member = members[0];
  if (member === undefined) throw new AfterimageError('POINT_UNKNOWN', `${group.name} has no member yet`);
  return member;
}
