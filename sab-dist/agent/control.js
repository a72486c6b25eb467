/** What `afterimage` asks of this agent, on its control socket (0600, in a directory of 0700). Grammar: control.proto. */
import { agentControlService, } from '../proto/control.js';
import { RpcServer, unary } from '../service/rpc.js';
/** Calls under way when the agent stops get so long to end. */
const STOP_GRACE_MS = 1_000;
/** What waits for the first attempts to start: longer than that the groups that are there are told of alone. */
const READY_MS_MAX = 5_000;
export class AgentControl {
    head;
    groups;
    clock;
    rssBytes;
    server = new RpcServer();
    constructor(head, groups, clock, rssBytes) {
        this.head = head;
        this.groups = groups;
        this.clock = clock;
        this.rssBytes = rssBytes;
        this.server.add(agentControlService, {
            status: unary(() => this.status()),
            checkpointCreate: unary(({ group, name }) => this.createCheckpoint(group, name)),
        });
    }
    /** Errors: LISTEN_BUSY, LISTEN_FAILED, PERMISSION_DENIED. */
    async listen(socket) {
        await this.server.listenUnix(socket);
    }
    async stop() {
        await this.server.stop(STOP_GRACE_MS);
    }
    async status() {
        await this.ready();
        return {
            ...this.head,
            connected: this.groups.isConnected,
            groups: this.groups.status(),
            rssBytes: BigInt(this.rssBytes()),
        };
    }
    async createCheckpoint(group, name) {
        await this.ready();
        return this.groups.createCheckpoint(group, name);
    }
    /** So that whoever gets an answer right after the start finds its volumes. Errors: why the agent does not start. */
    async ready() {
        const answered = new AbortController();
        const patience = this.clock.sleep(READY_MS_MAX, answered.signal).catch(() => undefined);
        await Promise.race([this.groups.ready, patience]).finally(() => answered.abort());
    }
}
//# sourceMappingURL=control.js.map