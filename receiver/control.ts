/** The receiver's side of its control socket: one handler a call of proto/control.ts. */
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import type {
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
import { serverStream, unary, type CallContext } from '../service/rpc.js';
import type { CheckpointRow } from './catalog/checkpoints.js';
import { toCatalogError } from './catalog/database.js';
import type { GroupRow, MemberRow } from './catalog/members.js';
import { groupNamed, type Points } from './points.js';
import type { Recovery } from './recovery/recovery.js';
import { receiverStatus, type StatusParts } from './status.js';
import { readHistory, spansOf, type Span } from './timeline.js';

export interface ControlParts extends StatusParts {
  points: Points;
  recovery: Recovery;
  /** Bytes per second of a scrub that says nothing else. */
  scrubRateMax: bigint;
  /** Aborted when the receiver drains: recoveries are interrupted, to go on later. */
  stopping: AbortSignal;
}

/** How long an agent may take to mark a checkpoint and ship everything before it, until the caller is told to look later. */
const CHECKPOINT_TIMEOUT_MS = 100_000;

/** The handlers of receiverControlService. */
export function controlHandlers(parts: ControlParts): UntypedServiceImplementation {
  const { points, exports, recovery, stopping } = parts;
  return {
    status: answer<Empty, ReceiverStatus>(() => receiverStatus(parts)),
    timeline: answer<TimelineRequest, Timeline>((request) => Promise.resolve(timeline(parts, request))),
    point: answer<PointRequest, PointInfo>(async ({ group, point }) => {
      // To say what a point is, its grade does not matter.
      const { positions, grade } = await points.resolve(group, point, true);
      const [{ lsn, timeNs, member }] = positions;
      return { group, lsn, timeNs, grade, member: member.uuid };
    }),
    checkpointCreate: answer<CheckpointCreateRequest, CheckpointInfo>((request) =>
      createCheckpoint(parts, request),
    ),
    checkpointList: answer<CheckpointListRequest, CheckpointList>((request) =>
      Promise.resolve({ checkpoints: listCheckpoints(parts, request.group) }),
    ),
    checkpointPin: answer<CheckpointPinRequest, CheckpointInfo>((request) =>
      Promise.resolve(pinCheckpoint(parts, request)),
    ),
    checkpointDelete: answer<CheckpointDeleteRequest, Empty>(({ group, name }) => {
      const row = knownCheckpoint(parts, group, name);
      if (row.pinned) {
        throw new AfterimageError('CHECKPOINT_PINNED', `${name} of ${group} keeps history that would go`);
      }
      parts.catalog.checkpoints.delete(row.group, name);
      return Promise.resolve({});
    }),
    exportOpen: answer<ExportOpenRequest, ExportInfo>((request, { signal }) =>
      exports.start(request, signal),
    ),
    exportList: answer<Empty, ExportList>(() => Promise.resolve({ exports: exports.list() })),
    exportClose: answer<ExportCloseRequest, Empty>(async ({ id }) => {
      await exports.stop(id);
      return {};
    }),
    scrub: serverStream<ScrubRequest, ScrubProgress>((request, { signal }) =>
      codedStream(scrubbed(parts, request, AbortSignal.any([signal, stopping]))),
    ),
    recover: serverStream<RecoverRequest, RecoverProgress>((request, { signal }) =>
      codedStream(recovery.run(request, AbortSignal.any([signal, stopping]))),
    ),
  };
}

/** A call whose errors all have a code, those of the catalog too. */
function answer<Request, Response>(
  handler: (request: Request, context: CallContext) => Promise<Response>,
): ReturnType<typeof unary<Request, Response>> {
  return unary<Request, Response>(async (request, context) => {
    try {
      return await handler(request, context);
    } catch (thrown) {
      throw toCatalogError(thrown);
    }
  });
}
async function* codedStream<Message>(messages: AsyncGenerator<Message, void>): AsyncGenerator<Message, void> {
  try {
    yield* messages;
  } catch (thrown) {
    throw toCatalogError(thrown);
  }
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
  return checkpoints.map(({ name, member, lsn, timeNs, consistency, pinned }) => {
    const spans = histories.find(({ row }) => row.uuid === member)?.spans ?? [];
    const span =
      spans.find(({ firstLsn, lastLsn }) => firstLsn <= lsn && lsn <= lastLsn) ??
      spans.find(({ grade, firstLsn, lastLsn }) => grade !== 'gap' && lastLsn < firstLsn && lsn === lastLsn);
    // In no span: its record is not there any more.
    const grade = span?.grade ?? 'damaged';
    return { name, group: group.name, lsn, timeNs, consistency, grade, pinned };
  });
}

/** The first member of the group marks its position; the others join it by its time, as they do any point. */
async function createCheckpoint(
  parts: ControlParts,
  { group: groupName, name, pin }: CheckpointCreateRequest,
): Promise<CheckpointInfo> {
  const { catalog, members } = parts;
  const group = groupNamed(catalog, groupName);
  const row = catalog.members.members(group.uuid)[0];
  const live = row === undefined ? null : (members.get(row.uuid)?.live ?? null);
  if (live === null) throw new AfterimageError('AGENT_AWAY', `no agent of ${groupName} is connected`);
  await withTimeout(live.askCheckpoint(name), name);
  if (pin) return pinCheckpoint(parts, { group: groupName, name, pinned: true });
  return checkpointInfo(parts, groupName, name);
}

function pinCheckpoint(parts: ControlParts, { group, name, pinned }: CheckpointPinRequest): CheckpointInfo {
  const row = knownCheckpoint(parts, group, name);
  parts.catalog.checkpoints.setPinned(row.group, name, pinned);
  return checkpointInfo(parts, group, name);
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
