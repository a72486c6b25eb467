/** Canned daemons behind real control sockets, and a command line run against them in this process. */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import {
  agentControlService,
  receiverControlService,
  type AgentStatus,
  type CheckpointCreateRequest,
  type CheckpointInfo,
  type ExportInfo,
  type GroupStatus,
  type ReceiverStatus,
  type RecoverProgress,
  type RecoverRequest,
  type ScrubProgress,
  type ScrubRequest,
  type Timeline,
} from '../../proto/control.js';
import type { AfterimageError } from '../../proto/errors.js';
import { run } from '../../cli/command.js';
import type { Daemons } from '../../cli/daemons.js';
import type { Output, Surroundings } from '../../cli/surroundings.js';
import { RpcServer, serverStream, unary, type CallContext } from '../../service/rpc.js';

/** 2026-01-31T10:15:00.123456789Z */
export const TIME_NS = 1_769_854_500_123_456_789n;
/** Not a double. */
export const LSN = 2n ** 60n + 1n;

export async function temporary(t: Test): Promise<string> {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'afterimage-cli-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export function groupStatus(overrides: Partial<GroupStatus> = {}): GroupStatus {
  return {
    name: 'db',
    uuid: '6f1e0000-0000-4000-8000-000000000001',
    member: '6f1e0000-0000-4000-8000-000000000002',
    host: 'host1',
    state: 'protected',
    detail: '',
    generation: 3n,
    capturedLsn: LSN,
    shippedLsn: LSN - 10n,
    durableLsn: LSN - 20n,
    rpoLagNs: 1_500_000n,
    rpoLagP50Ns: 1_000_000n,
    rpoLagP99Ns: 9_000_000n,
    ringUsedBytes: 64n << 20n,
    ringBytes: 256n << 20n,
    spoolUsedBytes: 0n,
    spoolBytes: 0n,
    capturedBytes: 3n << 30n,
    shippedBytes: 2n << 30n,
    journalBytes: 5n << 30n,
    windowBeginNs: TIME_NS - 3_600_000_000_000n,
    windowEndNs: TIME_NS,
    throughputBytesPerSecond: 12_582_912n,
    records: 1000n,
    oldestLsn: 7n,
    retentionWindowNs: 3n * 24n * 3_600_000_000_000n,
    retentionFloorNs: 4n * 3_600_000_000_000n,
    journalBytesMax: 0n,
    retentionHeldBy: '',
    volumes: [
      {
        name: 'data',
        uuid: '6f1e0000-0000-4000-8000-000000000003',
        size: 1n << 30n,
        state: 'initial-sync',
        device: '/dev/loop0',
        backing: '/dev/vg/data',
        syncBytesDone: 256n << 20n,
        syncBytesTotal: 1n << 30n,
        writeBytes: 1n << 20n,
        writes: 256n,
        reads: 1n,
        readBytes: 4096n,
        doubtBytes: 0n,
        resyncComparedBytes: 0n,
        resyncDifferingBytes: 0n,
      },
    ],
    ...overrides,
  };
}

export const agentStatus: AgentStatus = {
  version: '0.1.0',
  host: 'host1',
  receiver: '127.0.0.1:7443',
  connected: true,
  groups: [groupStatus()],
  rssBytes: 90n << 20n,
};
export const receiverStatus: ReceiverStatus = {
  scrubs: [],
  version: '0.1.0',
  store: '/var/lib/afterimage/store',
  storeBytesFree: 100n << 30n,
  listen: '127.0.0.1:7443',
  listenPlain: '',
  groups: [groupStatus()],
  exports: 1n,
};
export const checkpoint: CheckpointInfo = {
  name: 'noon',
  group: 'db',
  lsn: LSN,
  timeNs: TIME_NS,
  consistency: 'crash',
  grade: 'ordered',
  pinned: false,
  lockedUntilNs: 0n,
};
export const timeline: Timeline = {
  group: 'db',
  spans: [
    {
      grade: 'ordered',
      member: 'm',
      host: 'host1',
      generation: 2n,
      firstLsn: 1n,
      lastLsn: 90n,
      beginNs: TIME_NS - 50n,
      endNs: TIME_NS - 40n,
      reason: '',
    },
    {
      grade: 'gap',
      member: 'm',
      host: 'host1',
      generation: 2n,
      firstLsn: 0n,
      lastLsn: 0n,
      beginNs: TIME_NS - 40n,
      endNs: TIME_NS,
      reason: 'RING_FULL',
    },
    {
      grade: 'ordered',
      member: 'm',
      host: 'host1',
      generation: 3n,
      firstLsn: 91n,
      lastLsn: LSN,
      beginNs: TIME_NS,
      endNs: 0n,
      reason: '',
    },
  ],
  checkpoints: [checkpoint],
};
export const exported: ExportInfo = {
  id: 'e1',
  group: 'db',
  lsn: LSN,
  timeNs: TIME_NS,
  grade: 'ordered',
  writable: false,
  volumes: [
    { name: 'data', size: 1n << 30n, uri: 'nbd+unix:///data?socket=/run/x.sock', device: '' },
    { name: 'log', size: 1n << 29n, uri: '', device: '/dev/loop4' },
  ],
  openedInUs: 12_300n,
  createdNs: TIME_NS,
};

export function recoverProgress(bytesDone: bigint, phase = 'copy', volume = 'data'): RecoverProgress {
  return {
    volume,
    target: `/srv/${volume}.img`,
    bytesDone,
    bytesTotal: 1000n,
    bytesWritten: bytesDone / 2n,
    phase,
    sha256: phase === 'done' ? 'ab'.repeat(32) : '',
    lsn: LSN,
    timeNs: TIME_NS,
    point: `lsn:${LSN}`,
  };
}

/** What the canned receiver was asked, in order. */
export type Asked = [call: string, request: unknown][];

export interface CannedReceiver {
  /** Thrown instead of every answer. */
  failure?: AfterimageError;
  recover?: (request: RecoverRequest, context: CallContext) => AsyncGenerator<RecoverProgress>;
  scrub?: () => AsyncGenerator<ScrubProgress>;
  /** Instead of the canned checkpoint. */
  checkpointCreate?: (request: CheckpointCreateRequest, context: CallContext) => Promise<CheckpointInfo>;
}

/** Serves RUN_DIR/receiver.sock until the test ends. */
export async function cannedReceiver(t: Test, runDir: string, canned: CannedReceiver = {}): Promise<Asked> {
  const asked: Asked = [];
  const answer = <Q, S>(call: string, response: S) =>
    unary<Q, S>((request) => {
      asked.push([call, request]);
      return canned.failure === undefined ? Promise.resolve(response) : Promise.reject(canned.failure);
    });
  const server = new RpcServer();
  server.add(receiverControlService, {
    status: answer('status', receiverStatus),
    timeline: answer('timeline', timeline),
    point: answer('point', {
      group: 'db',
      lsn: LSN,
      timeNs: TIME_NS,
      grade: 'ordered' as const,
      member: 'm',
    }),
    checkpointCreate:
      canned.checkpointCreate === undefined
        ? answer('checkpointCreate', checkpoint)
        : unary(canned.checkpointCreate),
    checkpointList: answer('checkpointList', { checkpoints: [checkpoint] }),
    checkpointPin: answer('checkpointPin', { ...checkpoint, pinned: true }),
    checkpointDelete: answer('checkpointDelete', {}),
    exportOpen: answer('exportOpen', exported),
    exportList: answer('exportList', { exports: [exported] }),
    exportClose: answer('exportClose', {}),
    scrub: serverStream(async function* (request: ScrubRequest) {
      asked.push(['scrub', request]);
      if (canned.scrub !== undefined) yield* canned.scrub();
    }),
    recover: serverStream(async function* (request: RecoverRequest, context) {
      asked.push(['recover', request]);
      if (canned.failure !== undefined) throw canned.failure;
      if (canned.recover !== undefined) yield* canned.recover(request, context);
    }),
  });
  await server.listenUnix(path.join(runDir, 'receiver.sock'));
  t.teardown(() => server.stop(0));
  return asked;
}

/** Serves RUN_DIR/agent.sock until the test ends. */
export async function cannedAgent(
  t: Test,
  runDir: string,
  canned: { failure?: AfterimageError; socket?: string } = {},
): Promise<Asked> {
  const asked: Asked = [];
  const answer = <T>(response: T): Promise<T> =>
    canned.failure === undefined ? Promise.resolve(response) : Promise.reject(canned.failure);
  const server = new RpcServer();
  server.add(agentControlService, {
    status: unary(() => answer(agentStatus)),
    checkpointCreate: unary((request) => {
      asked.push(['checkpointCreate', request]);
      return answer(checkpoint);
    }),
    volumesInsert: unary((request) => {
      asked.push(['volumesInsert', request]);
      return answer(groupStatus());
    }),
    volumesRelease: unary((request) => {
      asked.push(['volumesRelease', request]);
      return answer({});
    }),
  });
  await server.listenUnix(path.join(runDir, canned.socket ?? 'agent.sock'));
  t.teardown(() => server.stop(0));
  return asked;
}

export interface Ended {
  status: number;
  stdout: string;
  stderr: string;
}

export class Recorder implements Output {
  text = '';
  readonly columns = 100;
  constructor(
    readonly isTerminal: boolean,
    private readonly onWrite: (text: string) => void = () => undefined,
  ) {}
  write(text: string): void {
    this.text += text;
    this.onWrite(text);
  }
}

/** Runs `afterimage ARGV`; the sockets are in `runDir`. */
export async function invoke(
  runDir: string,
  argv: readonly string[],
  overrides: Partial<Surroundings> = {},
): Promise<Ended> {
  const stdout = new Recorder(false);
  const stderr = new Recorder(false);
  const never = new AbortController().signal;
  const surroundings: Surroundings = {
    env: { AFTERIMAGE_RUN_DIR: runDir },
    cwd: runDir,
    stdout,
    stderr,
    readInput: () => Promise.resolve(''),
    ask: null,
    stop: { drain: never, end: never },
    sleep: async (ms, signal) => {
      await delay(ms, undefined, { signal }).catch(() => undefined);
    },
    now: () => Number(TIME_NS / 1_000_000n),
    daemons: noDaemons,
    version: '0.1.0',
    ...overrides,
  };
  const status = await run(argv, surroundings);
  const written = (output: Output): string => (output instanceof Recorder ? output.text : '');
  return { status, stdout: written(surroundings.stdout), stderr: written(surroundings.stderr) };
}

function unexpected(): Promise<never> {
  return Promise.reject(new Error('no daemon is run here'));
}
export const noDaemons: Daemons = {
  checkAgent: unexpected,
  agentLayouts: unexpected,
  checkReceiver: unexpected,
  runAgent: unexpected,
  supervise: unexpected,
  insertVolumes: unexpected,
  removeVolumes: unexpected,
  runReceiver: unexpected,
  initReceiver: unexpected,
  replaceAuthority: unexpected,
  joinReceiver: unexpected,
  command: () => [],
  logIn: unexpected,
  checkStore: unexpected,
  storeOf: unexpected,
};
