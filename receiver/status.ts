/** What `afterimage status` shows of a receiver. */
import type {
  GroupStatus,
  ProtectionState,
  ReceiverStatus,
  ScrubStatus,
  VolumeStatus,
} from '../proto/control.js';
import type { Heartbeat } from '../proto/replication.js';
import type { Catalog } from './catalog/catalog.js';
import type { GroupRow, MemberRow } from './catalog/members.js';
import type { VolumeRow } from './catalog/volumes.js';
import type { Exports } from './exports.js';
import type { Member, Members } from './members.js';
import type { Scrub } from './scrub/scrub.js';
import type { Store } from './store.js';
import type { Retention } from './retention/retention.js';
import { freeBytes } from './store_room.js';
import { readHistory, spansOf, type Span } from './timeline.js';

/** As it listens: "0.0.0.0:7443". */
export interface ListenAddresses {
  listen: string;
  /** Where there is no TLS; "": nowhere. */
  listenPlain: string;
}
export interface StatusParts {
  version: string;
  addresses: () => ListenAddresses;
  store: Store;
  catalog: Catalog;
  members: Members;
  exports: Exports;
  retention: Retention;
  scrub: Scrub;
  nowNs: () => bigint;
}

export async function receiverStatus(parts: StatusParts): Promise<ReceiverStatus> {
  const { version, addresses, store, catalog, members, exports } = parts;
  const storeBytesFree = await freeBytes(store.directory);
  members.refreshAll();
  return {
    version,
    store: store.directory,
    storeBytesFree,
    ...addresses(),
    groups: catalog.members
      .groups()
      .flatMap((group) => catalog.members.members(group.uuid).map((row) => memberStatus(parts, group, row))),
    exports: BigInt(exports.count),
    scrubs: catalog.members
      .groups()
      .flatMap((group) => catalog.members.members(group.uuid).map((row) => scrubStatus(parts, group, row))),
  };
}

function memberStatus(
  { catalog, members, retention, nowNs }: StatusParts,
  group: GroupRow,
  row: MemberRow,
): GroupStatus {
  const member = members.get(row.uuid);
  const heartbeat = member?.heartbeat ?? null;
  const spans = spansOf(readHistory(catalog, row.uuid));
  const ordered = spans.filter(({ grade }) => grade === 'ordered');
  const { state, detail } = stateOf(member, members.fault(row.uuid) ?? '', spans);
  const totals = catalog.segments.totals(row.uuid);
  const { windowNs, floorNs, bytesMax } = retention.settings(group.name);
  return {
    name: group.name,
    uuid: group.uuid,
    member: row.uuid,
    host: row.host,
    state,
    detail,
    generation: catalog.generations.newest(row.uuid)?.generation ?? 0n,
    capturedLsn: heartbeat?.capturedLsn ?? 0n,
    shippedLsn: heartbeat?.shippedLsn ?? 0n,
    durableLsn: member?.journal.durableLsn ?? row.ackedLsn,
    rpoLagNs: lagNs(heartbeat, row.coverage.timeNs, nowNs),
    rpoLagP50Ns: 0n,
    rpoLagP99Ns: 0n,
    ringUsedBytes: heartbeat?.ringUsedBytes ?? 0n,
    ringBytes: heartbeat?.ringBytes ?? 0n,
    spoolUsedBytes: 0n,
    spoolBytes: 0n,
    capturedBytes: 0n,
    shippedBytes: 0n,
    journalBytes: totals.bytes,
    windowBeginNs: ordered[0]?.beginNs ?? 0n,
    windowEndNs: ordered.at(-1)?.endNs ?? 0n,
    throughputBytesPerSecond: member?.received.bytesPerSecond() ?? 0n,
    records: totals.records,
    oldestLsn: spans.find(({ grade }) => grade !== 'gap')?.firstLsn ?? 0n,
    retentionWindowNs: windowNs,
    retentionFloorNs: floorNs,
    journalBytesMax: bytesMax ?? 0n,
    retentionHeldBy: retention.heldBy(row.uuid),
    volumes: catalog.volumes.volumes(row.uuid).map((volume) => volumeStatus(catalog, volume, state)),
  };
}

function scrubStatus(
  { catalog, scrub: { step } }: StatusParts,
  { name }: GroupRow,
  { uuid, host }: MemberRow,
): ScrubStatus {
  const isPresent = step?.member === uuid;
  const last = catalog.scrubs.last(uuid);
  return {
    group: name,
    member: uuid,
    host,
    bytesDone: isPresent ? step.bytesDone : 0n,
    bytesTotal: isPresent ? step.bytesTotal : 0n,
    finishedNs: last?.finishedNs ?? 0n,
    damaged: isPresent ? step.damaged : (last?.damaged ?? 0n),
    unsummed: isPresent ? step.unsummed : (last?.unsummed ?? 0n),
  };
}

function volumeStatus(catalog: Catalog, volume: VolumeRow, state: ProtectionState): VolumeStatus {
  const generation = catalog.generations.newest(volume.member);
  const present =
    generation === null
      ? undefined
      : catalog.generations
          .volumes(volume.member, generation.generation)
          .find(({ number }) => number === volume.number);
  const isSynced = present !== undefined && present.orderedLsn !== null;
  const isComplete = volume.baseState === 'BASE_COMPLETE';
  const syncing = isComplete ? 'resync' : 'initial-sync';
  return {
    name: volume.name,
    uuid: volume.uuid,
    size: volume.size,
    state: state === 'disconnected' || state === 'tracking' ? state : isSynced ? 'protected' : syncing,
    device: '',
    backing: '',
    // How far a resync is only the agent knows.
    syncBytesDone: isComplete ? volume.size : volume.syncOffset,
    syncBytesTotal: volume.size,
    writeBytes: 0n,
    writes: 0n,
    reads: 0n,
    readBytes: 0n,
    doubtBytes: 0n,
    resyncComparedBytes: 0n,
    resyncDifferingBytes: 0n,
  };
}

/** `openFault`: why the member's journal could not be opened, a code. */
function stateOf(
  member: Member | null,
  openFault: string,
  spans: readonly Span[],
): { state: ProtectionState; detail: string } {
  const last = spans.at(-1);
  const fault = member?.journal.fault ?? openFault;
  if (member === null || member.live === null) {
    return { state: 'disconnected', detail: fault === '' ? (member?.lastEnd ?? '') : fault };
  }
  const said = member.heartbeat?.state;
  if (last === undefined) return { state: 'initial-sync', detail: fault };
  switch (last.grade) {
    case 'ordered':
      return { state: 'protected', detail: fault };
    case 'syncing':
      return {
        state: said === 'resync' ? 'resync' : 'initial-sync',
        detail: fault === '' ? last.reason : fault,
      };
    case 'gap':
    case 'damaged':
      return { state: 'tracking', detail: fault === '' ? last.reason : fault };
  }
}

/** While the agent is away, nothing after what was covered last is known to be here: the lag grows. */
function lagNs(heartbeat: Heartbeat | null, coveredTimeNs: bigint, nowNs: () => bigint): bigint {
  if (heartbeat === null) return coveredTimeNs === 0n ? 0n : positive(nowNs() - coveredTimeNs);
  return heartbeat.oldestTimeNs === 0n ? 0n : positive(heartbeat.nowNs - heartbeat.oldestTimeNs);
}

function positive(ns: bigint): bigint {
  return ns > 0n ? ns : 0n;
}
