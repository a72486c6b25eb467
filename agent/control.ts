/** What `afterimage` asks of this agent, on its control socket (0600, in a directory of 0700). Grammar: control.proto. */
import {
  agentControlService,
  type AgentStatus,
  type AuditMessage,
  type AuditRequest,
  type CheckpointCreateRequest,
  type CheckpointInfo,
  type DeviceUse,
  type DeviceUses,
  type Empty,
  type GroupName,
  type GroupStatus,
  type VerificationProgress,
  type VerificationRequest,
} from '../proto/control.js';
import { toAfterimageError } from '../proto/errors.js';
import { peerCredentials } from '../native/index.js';
import { tellAuditLog, type AuditEntry, type AuditLog } from '../service/audit_log.js';
import { localName } from '../service/local_caller.js';
import { RpcServer, serverStream, unary } from '../service/rpc.js';
import type { Clock } from './clock.js';

/** Calls under way when the agent stops get so long to end. */
const STOP_GRACE_MS = 1_000;

/** What waits for the first attempts to start: longer than that the groups that are there are told of alone. */
const READY_MS_MAX = 5_000;

/** The groups, as far as the control socket knows them. */
export interface ControlledGroups {
  /** Settles when every group was tried once. */
  readonly ready: Promise<void>;
  /** Whether the receiver has answered any of them. */
  readonly isConnected: boolean;
  status(): GroupStatus[];
  uses(): Promise<DeviceUse[]>;
  createCheckpoint(group: string, name: string): Promise<CheckpointInfo>;
  insert(group: string): Promise<GroupStatus>;
  release(group: string): Promise<void>;
  verify(request: VerificationRequest, signal: AbortSignal): AsyncGenerator<VerificationProgress, void>;
}
export type StatusHead = Omit<AgentStatus, 'groups' | 'connected' | 'rssBytes'>;

export class AgentControl {
  private readonly server = new RpcServer();

  constructor(
    private readonly head: () => StatusHead,
    private readonly groups: ControlledGroups,
    private readonly clock: Clock,
    private readonly rssBytes: () => number,
    private readonly audit: AuditLog,
  ) {
    this.server.add(agentControlService, {
      status: unary<Empty, AgentStatus>(() => this.status()),
      checkpointCreate: unary<CheckpointCreateRequest, CheckpointInfo>(({ group, name }, { address }) =>
        this.changing(address, 'checkpoint create', { group, name }, () =>
          groups.createCheckpoint(group, name),
        ),
      ),
      volumesInsert: unary<GroupName, GroupStatus>(({ group }, { address }) =>
        this.changing(address, 'volume insert', { group }, () => groups.insert(group)),
      ),
      volumesRelease: unary<GroupName, Empty>(({ group }, { address }) =>
        this.changing(address, 'volume remove', { group }, async () => {
          await groups.release(group);
          return {};
        }),
      ),
      deviceUses: unary<Empty, DeviceUses>(() =>
        this.whenReady(async () => ({ devices: await groups.uses() })),
      ),
      verify: serverStream<VerificationRequest, VerificationProgress>((request, { signal, address }) =>
        request.repair ? this.repair(address, request, signal) : this.verify(request, signal),
      ),
      audit: serverStream<AuditRequest, AuditMessage>((request) => tellAuditLog(audit.file, request)),
    });
  }

  /** Errors: LISTEN_BUSY, LISTEN_FAILED, PERMISSION_DENIED. */
  async listen(socket: string): Promise<void> {
    await this.server.listenUnix(socket, peerCredentials);
  }

  async stop(): Promise<void> {
    await this.server.stop(STOP_GRACE_MS);
  }

  private async status(): Promise<AgentStatus> {
    await this.ready();
    return {
      ...this.head(),
      connected: this.groups.isConnected,
      groups: this.groups.status(),
      rssBytes: BigInt(this.rssBytes()),
    };
  }

  /** What it was asked for, and what came of it, is in the audit log before it is answered. */
  private async changing<T>(
    address: string,
    what: string,
    told: AuditEntry['with'],
    work: () => Promise<T>,
  ): Promise<T> {
    await this.ready();
    try {
      const result = await work();
      await this.note(address, what, told, 'ok');
      return result;
    } catch (thrown) {
      await this.note(address, what, told, toAfterimageError(thrown).code);
      throw thrown;
    }
  }

  private async whenReady<T>(work: () => Promise<T>): Promise<T> {
    await this.ready();
    return work();
  }

  private note(address: string, what: string, told: AuditEntry['with'], outcome: string): Promise<void> {
    return this.audit.write({ who: localName(address), what, with: told, outcome });
  }

  private async *repair(
    address: string,
    request: VerificationRequest,
    signal: AbortSignal,
  ): AsyncGenerator<VerificationProgress, void> {
    const { group, volume } = request;
    const told = { group, ...(volume === '' ? {} : { volume }) };
    await this.note(address, 'verify --repair', told, 'begun');
    // Whoever goes away in the middle ends it without an error.
    let outcome = 'INTERRUPTED';
    try {
      yield* this.verify(request, signal);
      outcome = 'ok';
    } catch (thrown) {
      outcome = toAfterimageError(thrown).code;
      throw thrown;
    } finally {
      await this.note(address, 'verify --repair', told, outcome);
    }
  }

  private async *verify(
    request: VerificationRequest,
    signal: AbortSignal,
  ): AsyncGenerator<VerificationProgress, void> {
    await this.ready();
    yield* this.groups.verify(request, signal);
  }

  /** So that whoever gets an answer right after the start finds its volumes. Errors: why the agent does not start. */
  private async ready(): Promise<void> {
    const answered = new AbortController();
    const patience = this.clock.sleep(READY_MS_MAX, answered.signal).catch(() => undefined);
    await Promise.race([this.groups.ready, patience]).finally(() => answered.abort());
  }
}
