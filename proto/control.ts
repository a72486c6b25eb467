/** What the `afterimage` command asks of the daemons: messages and gRPC services. Grammar: control.proto. */
import type { ServiceDefinition } from '@grpc/grpc-js';
import { method } from './method.js';

/**
 * Longest message on a control socket, bytes. Answers are lists without pages: about a million checkpoints, each with
 * its name, group and position.
 */
export const CONTROL_MESSAGE_BYTES_MAX = 64 * 1024 * 1024;

export type Empty = Record<string, never>;
/** How a group, a member or a volume is doing. */
export type ProtectionState = 'protected' | 'initial-sync' | 'resync' | 'tracking' | 'disconnected';
export type Grade = 'ordered' | 'syncing' | 'gap' | 'damaged';

export interface VolumeStatus {
  name: string;
  uuid: string;
  size: bigint;
  state: string;
  device: string;
  backing: string;
  syncBytesDone: bigint;
  syncBytesTotal: bigint;
  writeBytes: bigint;
  writes: bigint;
  reads: bigint;
  readBytes: bigint;
  /** Marked in its dirty log: what a crash now would put in doubt. */
  doubtBytes: bigint;
  /** Of the last resync since the daemon's start; and what of it was sent. */
  resyncComparedBytes: bigint;
  resyncDifferingBytes: bigint;
}
export interface GroupStatus {
  name: string;
  uuid: string;
  member: string;
  host: string;
  state: string;
  detail: string;
  generation: bigint;
  capturedLsn: bigint;
  shippedLsn: bigint;
  durableLsn: bigint;
  rpoLagNs: bigint;
  rpoLagP50Ns: bigint;
  rpoLagP99Ns: bigint;
  ringUsedBytes: bigint;
  ringBytes: bigint;
  /** 0n bytes: there is none. */
  spoolUsedBytes: bigint;
  spoolBytes: bigint;
  capturedBytes: bigint;
  shippedBytes: bigint;
  journalBytes: bigint;
  windowBeginNs: bigint;
  windowEndNs: bigint;
  throughputBytesPerSecond: bigint;
  records: bigint;
  volumes: VolumeStatus[];
  oldestLsn: bigint;
  retentionWindowNs: bigint;
  retentionFloorNs: bigint;
  journalBytesMax: bigint;
  retentionHeldBy: string;
}
export interface AgentStatus {
  version: string;
  host: string;
  receiver: string;
  connected: boolean;
  groups: GroupStatus[];
  rssBytes: bigint;
}
/** Of a volume that the agent serves. */
export interface DeviceUse {
  group: string;
  volume: string;
  /** As in VolumeStatus; "": none yet. */
  device: string;
  /** For people; "": nobody. */
  usedBy: string;
}
export interface DeviceUses {
  devices: DeviceUse[];
}
/** Of one member: the scrub under way, and what the last one found. */
export interface ScrubStatus {
  group: string;
  member: string;
  host: string;
  bytesDone: bigint;
  bytesTotal: bigint;
  finishedNs: bigint;
  damaged: bigint;
  /** Blocks of bases that had lost their checksum, and were given a new one. */
  unsummed: bigint;
}
export interface ReceiverStatus {
  version: string;
  store: string;
  storeBytesFree: bigint;
  listen: string;
  /** Where there is no TLS; "": nowhere. */
  listenPlain: string;
  groups: GroupStatus[];
  exports: bigint;
  scrubs: ScrubStatus[];
}
export interface AuditRequest {
  verdictOnly: boolean;
  /** SHA-256 of a line that must be there, hex; "": none. */
  expected: string;
}
export interface AuditVerdictInfo {
  lines: bigint;
  hash: string;
  faults: { line: bigint; what: string }[];
}
export interface AuditMessage {
  /** JSON. */
  lines: string[];
  /** In the last one. */
  verdict: AuditVerdictInfo | null;
}
export interface TimelineRequest {
  group: string;
}
export interface TimelineSpan {
  grade: Grade;
  member: string;
  host: string;
  generation: bigint;
  firstLsn: bigint;
  lastLsn: bigint;
  beginNs: bigint;
  endNs: bigint;
  reason: string;
}
export interface Timeline {
  group: string;
  spans: TimelineSpan[];
  checkpoints: CheckpointInfo[];
}
export interface CheckpointInfo {
  name: string;
  group: string;
  lsn: bigint;
  timeNs: bigint;
  consistency: string;
  grade: string;
  pinned: boolean;
  /** Before then nobody can unpin or delete it; 0n: it is not locked. */
  lockedUntilNs: bigint;
}
export interface GroupName {
  group: string;
}
export interface CheckpointCreateRequest {
  group: string;
  name: string;
  /** Retention is to keep it. The agent cannot. */
  pin: boolean;
  /** With `pin`; 0n: no lock. */
  lockUntilNs: bigint;
}
export interface CheckpointPinRequest {
  group: string;
  name: string;
  pinned: boolean;
  /** 0n: no lock. */
  lockUntilNs: bigint;
}
export interface CheckpointDeleteRequest {
  group: string;
  name: string;
}
export interface CheckpointListRequest {
  group: string;
}
export interface CheckpointList {
  checkpoints: CheckpointInfo[];
}
export interface PointRequest {
  group: string;
  point: string;
}
export interface PointInfo {
  group: string;
  lsn: bigint;
  timeNs: bigint;
  grade: Grade;
  member: string;
}
export interface ExportOpenRequest {
  group: string;
  point: string;
  writable: boolean;
  socket: string;
  tcp: string;
  device: boolean;
  volumes: string[];
  force: boolean;
}
export interface ExportVolume {
  name: string;
  size: bigint;
  uri: string;
  device: string;
}
export interface ExportInfo {
  id: string;
  group: string;
  lsn: bigint;
  timeNs: bigint;
  grade: string;
  writable: boolean;
  volumes: ExportVolume[];
  openedInUs: bigint;
  createdNs: bigint;
}
export interface ExportList {
  exports: ExportInfo[];
}
export interface ExportCloseRequest {
  id: string;
}
export interface ScrubRequest {
  group: string;
  rateMax: bigint;
}
export interface ScrubProgress {
  group: string;
  member: string;
  host: string;
  bytesDone: bigint;
  bytesTotal: bigint;
  damaged: bigint;
  /** As in ScrubStatus, so far. */
  unsummed: bigint;
  phase: string;
}
export interface VerificationRequest {
  group: string;
  volume: string;
  repair: boolean;
  rateMax: bigint;
}
export interface DifferingExtent {
  offset: bigint;
  length: bigint;
}
export interface VerificationProgress {
  volume: string;
  bytesDone: bigint;
  bytesTotal: bigint;
  extents: DifferingExtent[];
  phase: string;
  repaired: boolean;
  lsn: bigint;
}
export interface RecoverRequest {
  group: string;
  volume: string;
  point: string;
  target: string;
  overwrite: boolean;
  force: boolean;
}
export interface RecoverProgress {
  volume: string;
  target: string;
  bytesDone: bigint;
  bytesTotal: bigint;
  bytesWritten: bigint;
  phase: string;
  sha256: string;
  lsn: bigint;
  timeNs: bigint;
  /** Names this point for good, as `latest` does not: with it a recovery that was interrupted goes on. */
  point: string;
}

/** On the agent's control socket. */
export const agentControlService = {
  status: method<Empty, AgentStatus>('AgentControl', 'Status', 'StatusRequest', 'AgentStatus'),
  checkpointCreate: method<CheckpointCreateRequest, CheckpointInfo>(
    'AgentControl',
    'CheckpointCreate',
    'CheckpointCreateRequest',
    'CheckpointInfo',
  ),
  deviceUses: method<Empty, DeviceUses>('AgentControl', 'DeviceUses', 'DeviceUsesRequest', 'DeviceUses'),
  /** Serves the mapped volumes of a group, whose I/O waits. */
  volumesInsert: method<GroupName, GroupStatus>('AgentControl', 'VolumesInsert', 'GroupName', 'GroupStatus'),
  /** Gives them back; their I/O waits. */
  volumesRelease: method<GroupName, Empty>('AgentControl', 'VolumesRelease', 'GroupName', 'VolumesReleased'),
  verify: method<VerificationRequest, VerificationProgress>(
    'AgentControl',
    'Verify',
    'VerificationRequest',
    'VerificationProgress',
    true,
  ),
  audit: method<AuditRequest, AuditMessage>('AgentControl', 'Audit', 'AuditRequest', 'AuditMessage', true),
} satisfies ServiceDefinition;

const R = 'ReceiverControl';
/** On the receiver's control socket. */
export const receiverControlService = {
  status: method<Empty, ReceiverStatus>(R, 'Status', 'StatusRequest', 'ReceiverStatus'),
  timeline: method<TimelineRequest, Timeline>(R, 'Timeline', 'TimelineRequest', 'Timeline'),
  point: method<PointRequest, PointInfo>(R, 'Point', 'PointRequest', 'PointInfo'),
  checkpointCreate: method<CheckpointCreateRequest, CheckpointInfo>(
    R,
    'CheckpointCreate',
    'CheckpointCreateRequest',
    'CheckpointInfo',
  ),
  checkpointList: method<CheckpointListRequest, CheckpointList>(
    R,
    'CheckpointList',
    'CheckpointListRequest',
    'CheckpointList',
  ),
  checkpointPin: method<CheckpointPinRequest, CheckpointInfo>(
    R,
    'CheckpointPin',
    'CheckpointPinRequest',
    'CheckpointInfo',
  ),
  checkpointDelete: method<CheckpointDeleteRequest, Empty>(
    R,
    'CheckpointDelete',
    'CheckpointDeleteRequest',
    'CheckpointDeleted',
  ),
  exportOpen: method<ExportOpenRequest, ExportInfo>(R, 'ExportOpen', 'ExportOpenRequest', 'ExportInfo'),
  exportList: method<Empty, ExportList>(R, 'ExportList', 'ExportListRequest', 'ExportList'),
  exportClose: method<ExportCloseRequest, Empty>(R, 'ExportClose', 'ExportCloseRequest', 'ExportClosed'),
  scrub: method<ScrubRequest, ScrubProgress>(R, 'Scrub', 'ScrubRequest', 'ScrubProgress', true),
  audit: method<AuditRequest, AuditMessage>(R, 'Audit', 'AuditRequest', 'AuditMessage', true),
  recover: method<RecoverRequest, RecoverProgress>(R, 'Recover', 'RecoverRequest', 'RecoverProgress', true),
} satisfies ServiceDefinition;
