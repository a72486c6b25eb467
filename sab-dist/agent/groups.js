import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { aborted } from '../service/signals.js';
import { endAll } from './endings.js';
import { failedStatus } from './group_status.js';
import { retry } from './retry.js';
export class ProtectionGroups {
    configs;
    startGroup;
    around;
    /** The first attempts are over. Errors: what start() throws. */
    ready;
    onReady;
    started = new Map();
    failed = new Map();
    /** By group: over when it is started, or is not to be any more. They never reject. */
    attempts = new Map();
    stopping = new AbortController();
    constructor(configs, startGroup, around) {
        this.configs = configs;
        this.startGroup = startGroup;
        this.around = around;
        this.ready = new Promise((resolve, reject) => {
            this.onReady = (error) => (error === null ? resolve() : reject(error));
        });
        this.ready.catch(() => undefined); // perhaps nobody asks
    }
    /**
     * Tries every group once, all at the same time, and goes on trying those that cannot be started. Returns when that is
     * done, or as soon as `drain` aborts: an attempt may wait for a disk. Errors: the first that a group had, if none starts.
     */
    async start() {
        const { drain, isServing } = this.around;
        const attempts = drain.aborted ? [] : this.configs.map((config) => this.begin(config));
        const interrupted = aborted(drain).then(() => []);
        const errors = await Promise.race([Promise.all(attempts), interrupted]);
        const [first] = errors.filter((error) => error !== null);
        if (first !== undefined && this.started.size === 0 && !isServing) {
            this.onReady(first);
            throw first;
        }
        this.onReady(null);
    }
    get isConnected() {
        return [...this.started.values()].some((group) => group.isConnected);
    }
    /** Of those that were tried, in the order of the configuration. */
    status() {
        return this.configs.flatMap((config) => {
            const error = this.failed.get(config.name);
            if (error !== undefined)
                return [failedStatus(config, this.around.host, error)];
            return this.started.get(config.name)?.status() ?? [];
        });
    }
    /** Errors: GROUP_UNKNOWN, why the group is not started, and those of StartedGroup.createCheckpoint. */
    async createCheckpoint(group, name) {
        const found = this.started.get(group);
        if (found !== undefined)
            return found.createCheckpoint(name);
        throw this.failed.get(group) ?? new AfterimageError('GROUP_UNKNOWN', `this agent has no group ${group}`);
    }
    /** Stops every group, whatever happens to the others. Errors: the first that one had. */
    async stop() {
        this.stopping.abort();
        await endAll(() => this.configs.map((config) => this.end(config)));
    }
    async end(config) {
        await this.attempts.get(config.name);
        const group = this.started.get(config.name);
        if (group === undefined)
            return;
        const log = this.logOf(config);
        try {
            if (await group.stop())
                log.info('stopped');
            else
                log.warn('stopped; the next start compares with the receiver');
        }
        finally {
            this.started.delete(config.name); // what is closed cannot be asked for its status
        }
    }
    /** The first attempt; those that follow from its failure are owned here. */
    begin(config) {
        const first = this.attempt(config);
        const last = first.then((error) => (error === null ? undefined : this.tryAgain(config, error)));
        this.attempts.set(config.name, last);
        return first;
    }
    /** Null: it is started. */
    async attempt(config) {
        try {
            this.started.set(config.name, await this.startGroup(config));
            this.failed.delete(config.name);
            return null;
        }
        catch (thrown) {
            const error = toAfterimageError(thrown);
            this.failed.set(config.name, error);
            return error;
        }
    }
    /** Until it is started, or everything stops. Never rejects. */
    async tryAgain(config, error) {
        const { clock, drain } = this.around;
        const log = this.logOf(config);
        log.error({ err: error }, 'the group cannot be started');
        const failed = ({ code, message }) => log.warn({ code }, `the group still cannot be started: ${message}`);
        const enough = AbortSignal.any([drain, this.stopping.signal]);
        if (await retry(() => this.attempt(config), failed, clock, enough))
            log.info('the group is started after all');
    }
    logOf({ name }) {
        return this.around.log.child({ group: name });
    }
}
//# sourceMappingURL=groups.js.map