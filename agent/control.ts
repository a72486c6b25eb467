/** What `afterimage` asks of this agent, on its control socket (0600, in a directory of 0700). Grammar: control.proto. */
import { AfterimageError } from '../proto/errors.js';
import {
  agentControlService,
  type AgentStatus,
  type CheckpointCreateRequest,
  type CheckpointInfo,
  type Empty,
  type GroupStatus,
} from '../proto/control.js';
import { RpcServer, unary } from '../service/rpc.js';

/** Calls under way when the agent stops get so long to end. */
const STOP_GRACE_MS = 1_000;

/** A group, as far as the control socket knows it. */
export interface ControlledGroup {
  readonly name: string;
  status(): GroupStatus;
  createCheckpoint(name: string): Promise<CheckpointInfo>;
}
export type StatusHead = Omit<AgentStatus, 'groups' | 'connected' | 'rssBytes'>;

export class AgentControl {
  private readonly server = new RpcServer();

  /** `groups` may still be empty when the first call comes; `isConnected` tells of any of them. */
  constructor(
    private readonly head: StatusHead,
    private readonly groups: ReadonlyMap<string, ControlledGroup>,
    private readonly isConnected: () => boolean,
    private readonly rssBytes: () => number,
  ) {
    this.server.add(agentControlService, {
      status: unary<Empty, AgentStatus>(() => Promise.resolve(this.status())),
      checkpointCreate: unary<CheckpointCreateRequest, CheckpointInfo>(({ group, name }) =>
        this.createCheckpoint(group, name),
      ),
    });
  }

  /** Errors: LISTEN_BUSY, LISTEN_FAILED, PERMISSION_DENIED. */
  async listen(socket: string): Promise<void> {
    await this.server.listenUnix(socket);
  }

  async stop(): Promise<void> {
    await this.server.stop(STOP_GRACE_MS);
  }

  private status(): AgentStatus {
    return {
      ...this.head,
      connected: this.isConnected(),
      groups: [...this.groups.values()].map((group) => group.status()),
      rssBytes: BigInt(this.rssBytes()),
    };
  }

  private async createCheckpoint(group: string, name: string): Promise<CheckpointInfo> {
    const found = this.groups.get(group);
    if (found === undefined) throw new AfterimageError('GROUP_UNKNOWN', `this agent has no group ${group}`);
    return found.createCheckpoint(name);
  }
}
