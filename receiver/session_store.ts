/**
 * The catalog's side of a session: who may write, what a member's stream has come to, and how generations and syncs are
 * recorded. Every method is one transaction or one look; the order is the session machine's (session_events.ts).
 */
import { AfterimageError } from '../proto/errors.js';
import type {
  DirtyLogPosition,
  GenerationBegin,
  Hello,
  StreamEnd,
  VerifyDone,
  VolumeInfo,
} from '../proto/replication.js';
import { formatUuid } from '../proto/uuid.js';
import { isName } from '../service/settings.js';
import type { Catalog } from './catalog/catalog.js';
import type { IdentityRow } from './catalog/identities.js';
import { NOT_COVERED, type MemberRow } from './catalog/members.js';
import type { VolumeRow } from './catalog/volumes.js';
import { coveredTime } from './coverage.js';
import { fence, isBehind, isHeirOf } from './hello.js';
import { endInDoubt } from './journal/damage_record.js';
import { logAtHeartbeat, logAtHello, type KnownLog } from './log_claims.js';
import type { StoredVolume, StoredWriter } from './session_events.js';
import { checkOwnership } from './ownership.js';
import { NUMBER_MAX, VOLUMES_MAX } from './session_limits.js';

export class SessionStore {
  /** What was told since the last heartbeat, by member and volume: not worth a write to the disk each. */
  private readonly told = new Map<string, DirtyLogPosition>();

  constructor(
    private readonly catalog: Catalog,
    private readonly nowNs: () => bigint,
  ) {}

  /**
   * The writer that the catalog has for the member. Errors: GROUP_MISMATCH, VOLUME_MISMATCH when it knows group, member
   * or a volume as something else; MESSAGE_INVALID.
   */
  find(hello: Hello): StoredWriter | null {
    const { catalog } = this;
    const { epoch, usedLsnMax, durableLsn, acceptedGeneration, volumes } = hello;
    assertNumbers(epoch, usedLsnMax, durableLsn, acceptedGeneration, ...volumes.map(({ size }) => size));
    // Names become parts of paths: of sockets, mount points and recovered files.
    const bad = [hello.groupName, ...hello.volumes.map(({ name }) => name)].find((name) => !isName(name));
    if (bad !== undefined) throw new AfterimageError('MESSAGE_INVALID', `${JSON.stringify(bad)} is no name`);
    const group = formatUuid(hello.group);
    const uuid = formatUuid(hello.member);
    const named = catalog.members.groupNamed(hello.groupName);
    if (named !== null && named.uuid !== group) {
      throw new AfterimageError(
        'GROUP_MISMATCH',
        `${hello.groupName} is the group ${named.uuid}, not ${group}`,
      );
    }
    const known = catalog.members.group(group);
    if (known !== null && known.name !== hello.groupName) {
      throw new AfterimageError('GROUP_MISMATCH', `${group} is called ${known.name}, not ${hello.groupName}`);
    }
    const member = catalog.members.member(uuid);
    if (member !== null && member.group !== group) {
      throw new AfterimageError('GROUP_MISMATCH', `member ${uuid} belongs to the group ${member.group}`);
    }
    for (const volume of hello.volumes) this.checkVolume(group, uuid, volume);
    return member === null ? null : { epoch: member.epoch, instance: member.instance };
  }

  /**
   * Records group, member, volumes and the writer, `owner` the host whose identity it is; the catalog knows all that is in
   * the journal. False, and nothing changed, when a newer writer came first. Errors: GROUP_FORBIDDEN, and those of find().
   */
  storeWriter(hello: Hello, owner: string | null): boolean {
    const { catalog } = this;
    const group = formatUuid(hello.group);
    const uuid = formatUuid(hello.member);
    return catalog.atomically(() => {
      const writer = catalog.members.member(uuid);
      if (fence(hello, writer) !== null) return false;
      this.find(hello); // others may have come since it was looked at
      checkOwnership(catalog, owner === null ? null : this.host(owner), hello);
      // A group that nobody has becomes the host's.
      if (owner !== null && !catalog.grants.hostsOf(hello.groupName).includes(owner))
        catalog.grants.add(owner, hello.groupName);
      if (writer !== null && !isHeirOf(hello, writer)) {
        // What is here behind the last LSN that its lineage knows was written by another one. The generation ends at once,
        // for whoever of the lineage hears of it first: a Welcome can be lost.
        const last = catalog.segments.last(uuid);
        const end = { lastLsn: last?.lastLsn ?? 0n, lastTimeNs: last?.lastTimeNs ?? 0n };
        endInDoubt(catalog, uuid, end, 'FENCED');
      }
      if (catalog.members.group(group) === null)
        catalog.members.addGroup({ uuid: group, name: hello.groupName });
      catalog.members.putMember({
        uuid,
        group,
        host: owner ?? hello.host,
        owner,
        epoch: hello.epoch,
        instance: hello.instance,
        ackedLsn: 0n,
        coverage: NOT_COVERED,
      });
      for (const info of hello.volumes) this.putVolume(uuid, info);
      return true;
    });
  }

  private host(name: string): IdentityRow {
    const host = this.catalog.identities.named('host', name);
    if (host === null) throw new AfterimageError('IDENTITY_UNKNOWN', `no host ${name} has joined`);
    return host;
  }

  member(uuid: string): MemberRow {
    const member = this.catalog.members.member(uuid);
    if (member === null) throw new Error(`member ${uuid} was not stored`);
    return member;
  }
  volume(member: string, number: number): VolumeRow {
    const volume = this.catalog.volumes.volumes(member).find((row) => row.number === number);
    if (volume === undefined) throw new Error(`volume ${number} of ${member} was not stored`);
    return volume;
  }

  /** The volumes of `infos` as they are, in generation `generation`. */
  volumes(member: string, generation: bigint, infos: readonly VolumeInfo[]): StoredVolume[] {
    const synced = new Map(
      this.catalog.generations
        .volumes(member, generation)
        .map(({ number, orderedLsn }) => [number, orderedLsn ?? 0n]),
    );
    return infos.map((info) => {
      const { baseState, syncOffset } = this.volume(member, info.number);
      const isInDoubt = this.catalog.doubts.doubt(member, info.number).whole;
      const whole = isInDoubt || this.catalog.verifications.isPending(member, info.number);
      return { info, base: baseState, syncOffset, syncedLsn: synced.get(info.number) ?? 0n, whole };
    });
  }

  /** StoredPosition.leftSyncedLsns: of what generation `generation` has besides `infos`. */
  leftSyncedLsns(member: string, generation: bigint, infos: readonly VolumeInfo[]): bigint[] {
    return this.catalog.generations
      .volumes(member, generation)
      .filter(({ number }) => infos.every((info) => info.number !== number))
      .map(({ orderedLsn }) => orderedLsn ?? 0n);
  }

  /** What the dirty logs of a Hello are worth; the journal is durable up to `durableLsn`. */
  helloLogs(member: string, hello: Hello, durableLsn: bigint): void {
    const { volumes, logs } = hello;
    assertLogs(logs);
    this.catalog.atomically(() => {
      const generation = this.catalog.generations.newest(member)?.generation ?? 0n;
      if (isBehind(hello, { generation, durableLsn })) this.catalog.doubts.raise(member);
      for (const { number } of volumes) {
        const told = this.told.get(`${member} ${number}`);
        const isNewer = ({ logId, sequence }: KnownLog): boolean =>
          told !== undefined && (told.id !== logId || told.sequence > sequence);
        this.putLog(member, number, (known) =>
          told !== undefined && isNewer(known) ? logAtHeartbeat(known, told) : known,
        );
        this.told.delete(`${member} ${number}`);
        const claim = logs.find(({ volume }) => volume === number);
        this.putLog(member, number, (known) => logAtHello(known, claim, durableLsn));
      }
    });
  }
  noteLogs(member: string, logs: readonly DirtyLogPosition[]): void {
    assertLogs(logs);
    for (const claim of logs) this.told.set(`${member} ${claim.volume}`, claim);
  }
  heartbeatLogs(member: string, logs: readonly DirtyLogPosition[]): void {
    assertLogs(logs);
    const known = new Set(this.catalog.volumes.volumes(member).map(({ number }) => number));
    const told = logs.filter(({ volume }) => known.has(volume));
    const isNews = told.some(({ volume, id, sequence }) => {
      const { logId, sequence: before } = this.catalog.doubts.doubt(member, volume);
      return logId !== id || before !== sequence;
    });
    if (!isNews) return;
    this.catalog.atomically(() => {
      for (const claim of told) this.putLog(member, claim.volume, (before) => logAtHeartbeat(before, claim));
    });
  }
  /** Only a comparison of the whole volume makes it synced in another generation. */
  doubtVolume(member: string, number: number): void {
    this.catalog.atomically(() => this.putLog(member, number, (known) => ({ ...known, whole: true })));
  }
  private putLog(member: string, number: number, change: (known: KnownLog) => KnownLog): void {
    this.catalog.doubts.put({ member, number, ...change(this.catalog.doubts.doubt(member, number)) });
  }

  /** Records the generation's end, and a gap from `end.timeNs` on. */
  endGeneration(member: string, end: StreamEnd): void {
    assertNumbers(end.timeNs);
    this.catalog.generations.end(member, end.generation, end.lastLsn, end.timeNs, end.reason);
  }

  /**
   * Ends the generation before at `durableLsn` if nobody did, records the new one, and empties every base that was not
   * complete: records before it will not be applied to it.
   */
  beginGeneration(member: string, begin: GenerationBegin, durableLsn: bigint): void {
    assertNumbers(begin.generation, begin.firstLsn);
    const { catalog } = this;
    const { generation, firstLsn, reason, volumes } = begin;
    catalog.atomically(() => {
      const before = catalog.generations.newest(member);
      if (before !== null) {
        const lastNs = catalog.segments.atOrBefore(member, durableLsn)?.lastTimeNs ?? 0n;
        const { coverage } = this.member(member);
        const coveredNs = coveredTime(coverage, before.firstLsn, catalog.eras.eras(member));
        const endNs = lastNs > coveredNs ? lastNs : coveredNs;
        catalog.generations.end(member, before.generation, durableLsn, endNs, reason);
      }
      const isNew = { lastLsn: null, endNs: null, endReason: '' };
      catalog.generations.begin(
        { member, generation, firstLsn, beginNs: this.nowNs(), reason, ...isNew },
        volumes.map(({ number, size }) => ({
          member,
          generation,
          number,
          size,
          orderedLsn: null,
          orderedTimeNs: null,
        })),
      );
      // Of volumes that are away too: retention may take the row away before all was compared.
      for (const { number } of catalog.volumes.volumes(member)) {
        if (catalog.verifications.isPending(member, number))
          this.putLog(member, number, (known) => ({ ...known, whole: true }));
      }
      for (const { number } of volumes) {
        if (this.volume(member, number).baseState === 'BASE_COMPLETE') continue;
        catalog.volumes.setBase(member, number, 'BASE_EMPTY', firstLsn - 1n, 0n);
      }
    });
  }

  /** The base is being synced, and everything below `offset` is on stable storage in it. */
  setSyncing(member: string, number: number, offset: bigint): void {
    const { baseLsn } = this.volume(member, number);
    this.catalog.volumes.setBase(member, number, 'BASE_SYNCING', baseLsn, offset);
  }

  /**
   * The volume is consistent from `lsn` on; `timeNs` 0n: nobody said when. Its base is complete. `isWhole`: all of it was
   * copied or compared.
   */
  markSynced(
    member: string,
    generation: bigint,
    number: number,
    { lsn, timeNs, isWhole }: { lsn: bigint; timeNs: bigint; isWhole: boolean },
  ): void {
    const { baseState, baseLsn, syncOffset, size } = this.volume(member, number);
    // What a volume has grown by since is in the journal.
    const baseBytes = baseState === 'BASE_COMPLETE' ? syncOffset : size;
    this.catalog.atomically(() => {
      this.catalog.volumes.setBase(member, number, 'BASE_COMPLETE', baseLsn, baseBytes);
      this.catalog.generations.setOrdered(member, generation, number, lsn, timeNs);
      if (isWhole) this.catalog.verifications.putVerified({ member, number, lsn, timeNs });
      if (isWhole) this.putLog(member, number, (known) => ({ ...known, whole: false }));
    });
  }

  /**
   * What a comparison with the source has come to (R5). `time`: of the record at an LSN, nanoseconds. What differs is wrong
   * since nobody knows when: from where the volume was last known to be equal. What was not mended is compared again, as a
   * whole, at the latest in the next generation.
   */
  async storeVerified(
    member: string,
    generation: bigint,
    { volume: number, beginLsn, endLsn, differingBytes, differingExtents, firstOffset, complete }: VerifyDone,
    time: (lsn: bigint) => Promise<bigint | null>,
  ): Promise<void> {
    const { verifications } = this.catalog;
    const lastLsn = complete ? endLsn - 1n : null;
    const lastTimeNs = lastLsn === null ? null : await time(lastLsn);
    const equalLsn = differingBytes === 0n ? beginLsn : endLsn;
    const equalNs = (await time(equalLsn)) ?? this.nowNs();
    this.catalog.atomically(() => {
      const isOpen = verifications
        .differences(member)
        .some((row) => row.number === number && row.lastLsn === null && row.foundGeneration === generation);
      const reason =
        `${differingBytes} bytes in ${differingExtents} extents of ${this.volume(member, number).name} ` +
        `differed from the source, the first at ${firstOffset}`;
      if (differingBytes > 0n && isOpen) verifications.restateDifference(member, number, generation, reason);
      else if (differingBytes > 0n) {
        const known = verifications.verified(member, number) ?? { lsn: 1n, timeNs: 0n };
        // Told late, when all was compared since: it was before that, nobody knows any more since when.
        const isOver = beginLsn < known.lsn;
        verifications.addDifference({
          ...{ member, number, foundGeneration: generation, reason },
          ...(isOver
            ? { firstLsn: 1n, firstTimeNs: 0n, lastLsn: known.lsn - 1n, lastTimeNs: known.timeNs }
            : { firstLsn: known.lsn, firstTimeNs: known.timeNs, lastLsn, lastTimeNs }),
        });
      }
      if (lastLsn === null) return;
      verifications.mended(member, number, generation, { lastLsn, lastTimeNs });
      verifications.putVerified({ member, number, lsn: equalLsn, timeNs: equalNs });
    });
  }

  private checkVolume(
    group: string,
    member: string,
    { number, uuid, name, size, blockSize }: VolumeInfo,
  ): void {
    const mismatch = (what: string): AfterimageError =>
      new AfterimageError('VOLUME_MISMATCH', `volume ${name} (${formatUuid(uuid)}): ${what}`);
    const known = this.catalog.volumes.volumeWithUuid(formatUuid(uuid));
    if (known !== null && (known.member !== member || known.number !== number)) {
      throw mismatch(`known as number ${known.number} of member ${known.member}`);
    }
    if (known !== null && (size < known.size || known.blockSize !== blockSize)) {
      throw mismatch(
        `${size} bytes in blocks of ${blockSize}, known with ${known.size} in ${known.blockSize}`,
      );
    }
    for (const { uuid: other } of this.catalog.members.members(group)) {
      for (const row of this.catalog.volumes.volumes(other)) {
        if (row.uuid === formatUuid(uuid)) continue;
        if (row.name === name) throw mismatch(`the group has another volume of that name, ${row.uuid}`);
        if (other === member && row.number === number) throw mismatch(`number ${number} is ${row.name}`);
      }
    }
  }

  private putVolume(member: string, { number, uuid, name, size, blockSize }: VolumeInfo): void {
    this.catalog.volumes.put({
      member,
      number,
      uuid: formatUuid(uuid),
      name,
      size,
      blockSize,
      baseState: 'BASE_EMPTY',
      baseLsn: 0n,
      syncOffset: 0n,
    });
  }
}

function assertLogs(logs: readonly DirtyLogPosition[]): void {
  for (const { volume, id, sequence, basisLsn } of logs) {
    if (volume >= VOLUMES_MAX) throw new AfterimageError('MESSAGE_INVALID', `no volume has number ${volume}`);
    assertNumbers(id, sequence, basisLsn);
  }
}

/** Checked where a peer's numbers enter: beyond that the catalog would refuse them in the middle of something. */
function assertNumbers(...numbers: bigint[]): void {
  for (const number of numbers) {
    if (number > NUMBER_MAX) throw new AfterimageError('MESSAGE_INVALID', `${number} is beyond all reason`);
  }
}
