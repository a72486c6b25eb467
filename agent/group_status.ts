/** How a group is doing, in the words of proto/control.proto. */
import type { GroupStatus, ProtectionState, VolumeStatus } from '../proto/control.js';
import type { AfterimageError } from '../proto/errors.js';
import type { Clock } from './clock.js';
import type { GroupConfig, VolumeConfig } from './config.js';
import type { UsedVolume } from './device_use.js';
import type { LagHistogram } from './lag.js';
import { formatUuid } from '../proto/uuid.js';
import type { Member } from './member.js';
import type * as native from '../native/index.js';
import { spoolDetail } from './spool_report.js';
import type { AgentSession } from './session.js';
import type { MemberMemory } from './state.js';
import type { ProtectedVolume } from './volume.js';

export interface StatusSource {
  name: string;
  memory: Readonly<MemberMemory>;
  member: Member;
  volumes: readonly ProtectedVolume[];
  lag: LagHistogram;
  clock: Clock;
  /** When the agent began to serve the group. */
  startedNs: bigint;
}

export function groupStatus(source: StatusSource): GroupStatus {
  const { name, memory, member, volumes, lag, clock, startedNs } = source;
  const capture = member.capture;
  const stats = capture?.stats ?? null;
  const { marks, generation } = member.session;
  const protection = protectionState(member);
  const isWhole = volumes.every(({ failure }) => failure === null);
  const lagNs = stats === null ? clock.nowNs() - startedNs : rpoLagNs(stats, clock.nowNs(), startedNs);
  return {
    name,
    uuid: formatUuid(memory.group),
    member: formatUuid(memory.member),
    host: memory.host,
    state: isWhole ? protection : 'failed',
    detail: [
      stopDetail(member, volumes) ?? (protection === 'protected' ? '' : member.report.detail),
      stats === null ? '' : spoolDetail(stats),
      ...volumes.flatMap((volume) => volumeDetails(volume, member.session)),
    ]
      .filter((text) => text !== '')
      .join('; '),
    generation,
    capturedLsn: stats?.capturedLsn ?? 0n,
    shippedLsn: capture?.shipper.shippedLsn ?? 0n,
    durableLsn: marks.durable,
    rpoLagNs: lagNs > 0n ? lagNs : 0n,
    rpoLagP50Ns: lag.lastMinute(0.5),
    rpoLagP99Ns: lag.lastMinute(0.99),
    ringUsedBytes: stats?.ringUsedBytes ?? 0n,
    ringBytes: stats?.ringBytes ?? 0n,
    spoolUsedBytes: stats?.spoolUsedBytes ?? 0n,
    spoolBytes: stats?.spoolBytes ?? 0n,
    capturedBytes: stats?.rawBytes ?? 0n,
    shippedBytes: capture?.shipper.shippedBytes ?? 0n,
    journalBytes: 0n,
    windowBeginNs: 0n,
    windowEndNs: 0n,
    throughputBytesPerSecond: member.throughput.bytesPerSecond(),
    records: stats?.records ?? 0n,
    oldestLsn: 0n,
    retentionWindowNs: 0n,
    retentionFloorNs: 0n,
    journalBytesMax: 0n,
    retentionHeldBy: '',
    volumes: volumes.map((volume) => volumeStatus(volume, protection, member)),
  };
}

/**
 * The age of the oldest write that may not be durable at the receiver. Without a live stream every write since its last
 * record is such a one: none of them is in the ring.
 */
export function rpoLagNs(
  stats: Pick<native.CaptureStats, 'streaming' | 'oldestTimeNs' | 'capturedTimeNs' | 'records'>,
  nowNs: bigint,
  startedNs: bigint,
): bigint {
  const { streaming, oldestTimeNs, capturedTimeNs, records } = stats;
  if (oldestTimeNs !== 0n) return nowNs - oldestTimeNs;
  if (streaming) return 0n;
  return nowNs - (records > 0n ? capturedTimeNs : startedNs);
}

/** Of a group that could not be started. `taken`: what its predecessor had served, and is served again, or not yet. */
export function failedStatus(
  config: GroupConfig,
  host: string,
  error: AfterimageError,
  taken: readonly UsedVolume[],
): GroupStatus {
  const { code, message, hint } = error;
  const deviceOf = (volume: string): string =>
    taken.find(({ config: { name } }) => name === volume)?.attachedAs ?? '';
  const forgotten = taken.filter((one) => !config.volumes.some(({ name }) => name === one.config.name));
  const volumes = [...config.volumes, ...forgotten.map((one) => one.config)];
  return {
    name: config.name,
    uuid: '',
    member: '',
    host,
    state: 'failed',
    detail: `${servedDetail(volumes, deviceOf)}${code}: ${message}. ${hint}`,
    generation: 0n,
    capturedLsn: 0n,
    shippedLsn: 0n,
    durableLsn: 0n,
    rpoLagNs: 0n,
    rpoLagP50Ns: 0n,
    rpoLagP99Ns: 0n,
    ringUsedBytes: 0n,
    ringBytes: 0n,
    spoolUsedBytes: 0n,
    spoolBytes: 0n,
    capturedBytes: 0n,
    shippedBytes: 0n,
    journalBytes: 0n,
    windowBeginNs: 0n,
    windowEndNs: 0n,
    throughputBytesPerSecond: 0n,
    records: 0n,
    oldestLsn: 0n,
    retentionWindowNs: 0n,
    retentionFloorNs: 0n,
    journalBytesMax: 0n,
    retentionHeldBy: '',
    volumes: volumes.map(({ name, backing }) => ({
      name,
      uuid: '',
      size: 0n,
      state: deviceOf(name) === '' ? 'failed' : 'tracking',
      device: deviceOf(name),
      backing,
      syncBytesDone: 0n,
      syncBytesTotal: 0n,
      writeBytes: 0n,
      writes: 0n,
      reads: 0n,
      readBytes: 0n,
      doubtBytes: 0n,
      resyncComparedBytes: 0n,
      resyncDifferingBytes: 0n,
    })),
  };
}

/** What production has although nothing is protected; whoever is woken by it must not take that for more than it is. */
function servedDetail(volumes: readonly VolumeConfig[], deviceOf: (volume: string) => string): string {
  const served = volumes.map(({ name }) => name).filter((name) => deviceOf(name) !== '');
  if (served.length === 0) return '';
  if (served.length === volumes.length) return 'production is served, and not protected: ';
  return `of its volumes only ${served.join(', ')} are served, and none is protected: `;
}

/** The native group ends a stream by itself, and the session hears of it only where the stream is pulled to its end. */
function protectionState({ capture, session, hasFailed }: Member): ProtectionState {
  const isReplicated = capture?.stats.streaming === true && !session.hasEnded && !hasFailed;
  return isReplicated ? session.state : 'tracking';
}

/** What a stop waits for; null: nobody asked for one. */
function stopDetail(member: Member, volumes: readonly ProtectedVolume[]): string | null {
  if (!member.isStopping) return null;
  const used = volumes.filter(({ usedBy }) => usedBy !== null);
  if (used.length === 0) return 'stopping';
  return `stopping: in use by ${used.map(({ config, usedBy }) => `${usedBy} (volume ${config.name})`).join(', ')}`;
}

/** What a volume's state does not say of it. */
function volumeDetails(
  { config, info, failure, sizeFault, title, counters, log }: ProtectedVolume,
  session: Pick<AgentSession, 'knowsVoid'>,
): string[] {
  const details: string[] = [];
  if (failure !== null)
    details.push(`volume ${config.name} is not served: ${failure.code}: ${failure.message}. ${failure.hint}`);
  if (sizeFault !== null) details.push(`${sizeFault.code}: ${sizeFault.message}. ${sizeFault.hint}`);
  if (counters.errors > 0n) details.push(`BACKING_FAILED: failed requests of ${title}: ${counters.errors}`);
  const { fault, isStale, flushFailed } = log.state();
  if (fault !== '')
    details.push(
      `the dirty log of volume ${config.name} is void (${fault}): its next resync compares everything`,
    );
  if (isStale && session.knowsVoid(info.number))
    details.push(
      `the disk of the state directory takes no changes; the receiver knows not to believe what it says of volume ${config.name}`,
    );
  else if (isStale)
    details.push(
      `the disk of the state directory takes no changes: should this host lose power before that ends, or before the receiver has been told, volume ${config.name} must be verified`,
    );
  if (flushFailed)
    details.push(`${title} failed a flush: what was written since stays in doubt until it is opened anew`);
  return details;
}

function volumeStatus(volume: ProtectedVolume, group: ProtectionState, member: Member): VolumeStatus {
  const { name, number, uuid, size } = volume.info;
  const { active } = member.session.sync;
  const isSynced = member.report.syncedVolumes.has(number);
  const isActive = active?.volume === number;
  const { reads, readBytes, writes, writeBytes } = volume.counters;
  const resync = member.session.resyncReport(number);
  // While the group syncs another volume, this one is done or waits for its turn.
  const isProtected = group !== 'tracking' && group !== 'disconnected' && isSynced && !isActive;
  return {
    name,
    uuid: formatUuid(uuid),
    size,
    state: volume.failure !== null ? 'failed' : isProtected ? 'protected' : group,
    device: volume.attachedAs,
    backing: volume.config.backing,
    syncBytesDone: isActive ? active.doneBytes : isSynced ? size : 0n,
    syncBytesTotal: isActive ? active.totalBytes : size,
    writeBytes,
    writes,
    reads,
    readBytes,
    doubtBytes: volume.doubtBytes,
    resyncComparedBytes: resync?.comparedBytes ?? 0n,
    resyncDifferingBytes: resync?.differingBytes ?? 0n,
  };
}
