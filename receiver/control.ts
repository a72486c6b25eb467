/** What operators ask of the receiver: one handler a call of proto/control.ts. */
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import type {
  AuditMessage,
  AuditRequest,
  CheckpointCreateRequest,
  CheckpointDeleteRequest,
  CheckpointInfo,
  CheckpointList,
  CheckpointListRequest,
  CheckpointPinRequest,
  Empty,
  ExportCloseRequest,
  ExportInfo,
  ExportList,
  ExportOpenRequest,
  PointInfo,
  PointRequest,
  ReceiverStatus,
  RecoverProgress,
  RecoverRequest,
  ScrubProgress,
  ScrubRequest,
  Timeline,
  TimelineRequest,
  TimelineSpan,
} from '../proto/control.js';
import { AfterimageError } from '../proto/errors.js';
import { formatTime } from '../proto/time.js';
import { tellAuditLog } from '../service/audit_log.js';
import { liesBelow } from '../service/below.js';
import type { CheckpointRow } from './catalog/checkpoints.js';
import type { GroupRow, MemberRow } from './catalog/members.js';
import type { CallerIdentity, Guard } from './guard.js';
import { groupNamed, type Points } from './points.js';
import type { Recovery } from './recovery/recovery.js';
import { receiverStatus, type StatusParts } from './status.js';
import { readHistory, spansOf, type Span } from './timeline.js';

export interface ControlParts extends StatusParts {
  points: Points;
  recovery: Recovery;
  /** Where operators who are not on this machine may recover to; null: nowhere. */
  recoveryDirectory: string | null;
  /** Bytes per second of a scrub that says nothing else. */
  scrubRateMax: bigint;
  /** Aborted when the receiver drains: recoveries are interrupted, to go on later. */
  stopping: AbortSignal;
}

/** How long an agent may take to mark a checkpoint and ship everything before it, until the caller is told to look later. */
/** What fits the catalog: the year 2262. */
const LOCK_UNTIL_NS_MAX = 2n ** 63n - 1n;
const CHECKPOINT_TIMEOUT_MS = 100_000;

/** The handlers of receiverControlService; `guard` lets callers in. */
export function controlHandlers(parts: ControlParts, guard: Guard): UntypedServiceImplementation {
  const { points, exports, stopping } = parts;
  return {
    status: guard.unary<Empty, ReceiverStatus>('status', () => receiverStatus(parts)),
    timeline: guard.unary<TimelineRequest, Timeline>('timeline', (request) =>
      Promise.resolve(timeline(parts, request)),
    ),
    point: guard.unary<PointRequest, PointInfo>('point', async ({ group, point }) => {
      // To say what a point is, its grade does not matter.
      const { positions, grade } = await points.resolve(group, point, true);
      const [{ lsn, timeNs, member }] = positions;
      return { group, lsn, timeNs, grade, member: member.uuid };
    }),
    checkpointCreate: guard.unary<CheckpointCreateRequest, CheckpointInfo>(
      'checkpointCreate',
      (request, { caller }) => {
        if (request.lockUntilNs > 0n) guard.require(caller, 'admin', 'checkpointPin');
        return createCheckpoint(parts, request);
      },
    ),
    checkpointList: guard.unary<CheckpointListRequest, CheckpointList>('checkpointList', (request) =>
      Promise.resolve({ checkpoints: listCheckpoints(parts, request.group) }),
    ),
    checkpointPin: guard.unary<CheckpointPinRequest, CheckpointInfo>(
      'checkpointPin',
      (request, { caller }) => {
        // What is let go of may be gone a second later, and what is locked fills the store until its day has come.
        if (!request.pinned || request.lockUntilNs > 0n) guard.require(caller, 'admin', 'checkpointPin');
        return Promise.resolve(pinCheckpoint(parts, request));
      },
    ),
    checkpointDelete: guard.unary<CheckpointDeleteRequest, Empty>('checkpointDelete', ({ group, name }) => {
      const row = knownCheckpoint(parts, group, name);
      refuseLocked(parts, row, group);
      if (row.pinned) {
        throw new AfterimageError('CHECKPOINT_PINNED', `${name} of ${group} keeps history that would go`);
      }
      parts.catalog.checkpoints.delete(row.group, name);
      return Promise.resolve({});
    }),
    exportOpen: guard.unary<ExportOpenRequest, ExportInfo>('exportOpen', (request, { signal, caller }) => {
      if (request.socket !== '') refuseRemote(caller, request.socket, 'an export on a socket');
      return exports.start(request, signal);
    }),
    exportList: guard.unary<Empty, ExportList>('exportList', () =>
      Promise.resolve({ exports: exports.list() }),
    ),
    exportClose: guard.unary<ExportCloseRequest, Empty>('exportClose', async ({ id }) => {
      await exports.stop(id);
      return {};
    }),
    scrub: guard.stream<ScrubRequest, ScrubProgress>('scrub', (request, { signal }) =>
      scrubbed(parts, request, AbortSignal.any([signal, stopping])),
    ),
    audit: guard.stream<AuditRequest, AuditMessage>('audit', (request) =>
      tellAuditLog(parts.store.auditFile, request),
    ),
    recover: guard.stream<RecoverRequest, RecoverProgress>('recover', (request, { signal, caller }) =>
      recovered(parts, request, caller, AbortSignal.any([signal, stopping])),
    ),
  };
}

/** Whoever is elsewhere names no paths of this machine, on which the receiver runs as root. Errors: TARGET_FORBIDDEN. */
function refuseRemote({ who, isLocal }: CallerIdentity, path: string, what: string): void {
  if (!isLocal)
    throw new AfterimageError('TARGET_FORBIDDEN', `${path}: ${what} is not for ${who}, from elsewhere`);
}

async function* recovered(
  { recovery, recoveryDirectory }: ControlParts,
  request: RecoverRequest,
  caller: CallerIdentity,
  signal: AbortSignal,
): AsyncGenerator<RecoverProgress, void> {
  const isBelow = recoveryDirectory !== null && (await liesBelow(request.target, recoveryDirectory));
  if (!isBelow) refuseRemote(caller, request.target, 'recovering to there');
  yield* recovery.run(request, signal);
}

async function* scrubbed(
  { catalog, scrub, scrubRateMax }: ControlParts,
  { group, rateMax }: ScrubRequest,
  signal: AbortSignal,
): AsyncGenerator<ScrubProgress, void> {
  const groups = group === '' ? catalog.members.groups() : [groupNamed(catalog, group)];
  const rate = rateMax === 0n ? scrubRateMax : rateMax;
  for await (const { done, ...step } of scrub.run(groups, rate, signal)) {
    yield { ...step, phase: done ? 'done' : 'scrub' };
  }
}

function timeline({ catalog, members }: ControlParts, request: TimelineRequest): Timeline {
  const group = groupNamed(catalog, request.group);
  const rows = catalog.members.members(group.uuid);
  for (const row of rows) members.refresh(row.uuid);
  const histories = rows.map((row) => ({ row, spans: spansOf(readHistory(catalog, row.uuid)) }));
  return {
    group: group.name,
    spans: histories.flatMap(({ row, spans }) => spans.map((span) => timelineSpan(row, span))),
    checkpoints: checkpointsOf(catalog.checkpoints.checkpoints(group.uuid), group, histories),
  };
}

function timelineSpan(row: MemberRow, span: Span): TimelineSpan {
  const { grade, generation, firstLsn, lastLsn, beginNs, endNs, reason } = span;
  return {
    grade,
    member: row.uuid,
    host: row.host,
    generation,
    firstLsn,
    lastLsn,
    beginNs,
    endNs: endNs ?? 0n,
    reason,
  };
}

function listCheckpoints({ catalog }: ControlParts, name: string): CheckpointInfo[] {
  const groups = name === '' ? catalog.members.groups() : [groupNamed(catalog, name)];
  return groups.flatMap((group) => {
    const histories = catalog.members
      .members(group.uuid)
      .map((row) => ({ row, spans: spansOf(readHistory(catalog, row.uuid)) }));
    return checkpointsOf(catalog.checkpoints.checkpoints(group.uuid), group, histories);
  });
}

function checkpointsOf(
  checkpoints: readonly CheckpointRow[],
  group: GroupRow,
  histories: readonly { row: MemberRow; spans: readonly Span[] }[],
): CheckpointInfo[] {
  return checkpoints.map(({ name, member, lsn, timeNs, consistency, pinned, lockedUntilNs }) => {
    const spans = histories.find(({ row }) => row.uuid === member)?.spans ?? [];
    const span =
      spans.find(({ firstLsn, lastLsn }) => firstLsn <= lsn && lsn <= lastLsn) ??
      spans.find(({ grade, firstLsn, lastLsn }) => grade !== 'gap' && lastLsn < firstLsn && lsn === lastLsn);
    // In no span: its record is not there any more.
    const grade = span?.grade ?? 'damaged';
    return { name, group: group.name, lsn, timeNs, consistency, grade, pinned, lockedUntilNs };
  });
}

/** The first member that is connected marks its position; the others join it by its time, as they do any point. */
async function createCheckpoint(
  parts: ControlParts,
  { group: groupName, name, pin, lockUntilNs }: CheckpointCreateRequest,
): Promise<CheckpointInfo> {
  const { catalog, members } = parts;
  const group = groupNamed(catalog, groupName);
  const live = catalog.members
    .members(group.uuid)
    .map(({ uuid }) => members.get(uuid)?.live ?? null)
    .find((one) => one !== null);
  if (live === undefined) throw new AfterimageError('AGENT_AWAY', `no agent of ${groupName} is connected`);
  await withTimeout(live.askCheckpoint(name), name);
  if (pin) return pinCheckpoint(parts, { group: groupName, name, pinned: true, lockUntilNs });
  return checkpointInfo(parts, groupName, name);
}

function pinCheckpoint(
  parts: ControlParts,
  { group, name, pinned, lockUntilNs }: CheckpointPinRequest,
): CheckpointInfo {
  const { checkpoints } = parts.catalog;
  const row = knownCheckpoint(parts, group, name);
  if (!pinned) refuseLocked(parts, row, group);
  if (pinned && lockUntilNs > LOCK_UNTIL_NS_MAX)
    throw new AfterimageError('USAGE', 'no lock lasts that long');
  if (pinned && lockUntilNs > 0n) checkpoints.lock(row.group, name, lockUntilNs);
  else checkpoints.setPinned(row.group, name, pinned);
  return checkpointInfo(parts, group, name);
}

/** Errors: CHECKPOINT_LOCKED. */
function refuseLocked({ nowNs }: ControlParts, { name, lockedUntilNs }: CheckpointRow, group: string): void {
  if (lockedUntilNs <= nowNs()) return;
  throw new AfterimageError(
    'CHECKPOINT_LOCKED',
    `${name} of ${group} cannot be let go of before ${formatTime(lockedUntilNs)}`,
  );
}

/** Errors: GROUP_UNKNOWN, CHECKPOINT_UNKNOWN. */
function knownCheckpoint({ catalog }: ControlParts, groupName: string, name: string): CheckpointRow {
  const row = catalog.checkpoints.checkpoint(groupNamed(catalog, groupName).uuid, name);
  if (row === null) throw new AfterimageError('CHECKPOINT_UNKNOWN', `${groupName} has no checkpoint ${name}`);
  return row;
}

function checkpointInfo(parts: ControlParts, group: string, name: string): CheckpointInfo {
  const kept = listCheckpoints(parts, group).find((checkpoint) => checkpoint.name === name);
  if (kept === undefined) throw new AfterimageError('CHECKPOINT_UNKNOWN', `${name} was not kept`);
  return kept;
}

/** What was asked for goes on. */
async function withTimeout(asked: Promise<void>, name: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(
        new AfterimageError('CHECKPOINT_PENDING', `checkpoint ${name} is asked for, and not durable yet`),
      );
    }, CHECKPOINT_TIMEOUT_MS);
  });
  try {
    await Promise.race([asked, late]);
  } finally {
    clearTimeout(timer);
  }
}
